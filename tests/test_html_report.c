/* test_html_report.c - do the pictures show what is in the sound, where it is, and is the page
 * sound markup that loads nothing and obeys nobody? */
#include "alloc_fail.h"
#include "check.h"
#include "html_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- markup --------------------------------------------------------------------------------- */

static void test_text(void) {
    static const struct {
        const char *in, *out;
    } CASES[] = {
        {"plain", "plain"},
        {"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"},
        {"\"><img src=x onerror='y'>", "&quot;&gt;&lt;img src=x onerror=&#39;y&#39;&gt;"},
        {"a&amp;b", "a&amp;amp;b"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xa4", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xa4"},
        {"\xff\xfe", "??"},
        {"cut \xe2\x82", "cut ??"},
        {"\xc0\xbc", "??"},              /* '<' in two bytes */
        {"\xed\xa0\x80", "???"},         /* half of a pair */
        {"\xf4\x90\x80\x80", "????"},    /* beyond Unicode */
        {"\xef\xbf\xbf", "???"},         /* no character */
        {"\x1b[31m\nx\x7f", "?[31m?x?"}, /* a terminal would obey */
        {"\xc2\x9b", "??"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        app_error err = {0};
        markup m = {.err = &err};
        markup_text(&m, CASES[i].in);
        const char *got = m.out.data ? m.out.data : "";
        CHECK(m.rc == EXIT_OK && !strcmp(got, CASES[i].out), "case %zu: '%s', wanted '%s'", i, got,
              CASES[i].out);
        markup_free(&m);
    }
}

/* The examples of RFC 4648. */
static void test_base64(void) {
    static const char *const CASES[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        app_error err = {0};
        markup m = {.err = &err};
        markup_base64(&m, CASES[i][0], strlen(CASES[i][0]));
        CHECK(!strcmp(m.out.data ? m.out.data : "", CASES[i][1]), "'%s' becomes '%s'", CASES[i][0],
              m.out.data ? m.out.data : "");
        markup_free(&m);
    }
}

/* Is it XML as far as tags go: every element closed in turn, every attribute quoted, every
 * ampersand the beginning of an entity? NULL, or what is wrong. */
static const char *unbalanced(const char *at) {
    static char stack[32][16];
    int depth = 0;
    while (*at) {
        if (*at == '&') {
            size_t n = strspn(at + 1, "#abcdefghijklmnopqrstuvwxyz0123456789");
            if (n == 0 || at[n + 1] != ';') return at;
        }
        if (*at++ != '<') continue;
        const char *tag = at;
        if (!strncmp(at, "!DOCTYPE ", 9)) continue;
        bool closing = *at == '/';
        size_t n = strspn(at + closing, "abcdefghijklmnopqrstuvwxyz123456");
        if (n == 0 || n > 15) return tag;
        char name[16] = {0};
        memcpy(name, at + closing, n);
        for (at += closing + n; *at && *at != '>'; at++) {
            if (*at == '<') return tag;
            if (*at != '=') continue;
            if (*++at != '"') return tag;
            for (at++; *at != '"'; at++)
                if (!*at || *at == '<') return tag;
        }
        if (!*at) return tag;
        if (closing && (depth == 0 || strcmp(stack[--depth], name) != 0)) return tag;
        if (closing || at[-1] == '/') continue;
        if (depth == 32) return tag;
        strcpy(stack[depth++], name);
    }
    return depth ? stack[depth - 1] : NULL;
}

#ifdef APP_HAVE_KISSFFT

/* ---- pictures ------------------------------------------------------------------------------- */

static float *tone(size_t n, int rate_hz, double hz, double moving_hz) {
    float *x = calloc(n, sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        double t = (double)i / rate_hz;
        x[i] = (float)(0.5 * sin(2 * M_PI * hz * t) * (1 + 0.8 * sin(2 * M_PI * moving_hz * t)));
    }
    return x;
}

/* The brightest row of a tone's spectrogram is that of its frequency, in every column. */
static void test_spectrogram(void) {
    static const struct {
        int rate_hz;
        double hz, top_hz;
    } CASES[] = {{24000, 1000, 12000}, {24000, 11000, 12000}, {8000, 300, 4000},
                 {48000, 3000, 12000}, {44100, 440, 12000},   {1000, 200, 500}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        size_t n = (size_t)CASES[i].rate_hz * 2;
        float *x = tone(n, CASES[i].rate_hz, CASES[i].hz, 0);
        shades s = {0};
        double top = 0, worst = 0;
        app_error err = {0};
        if (CHECK(x && plot_spectrogram_shades(&s, &top, x, n, CASES[i].rate_hz, &err) == EXIT_OK,
                  "%s", err.text)) {
            CHECK(top == CASES[i].top_hz, "%d Hz: up to %g Hz", CASES[i].rate_hz, top);
            double row_hz = top / (double)s.height;
            for (size_t c = 0; c < s.width; c++) {
                size_t best = 0;
                for (size_t r = 1; r < s.height; r++)
                    if (s.level[r * s.width + c] > s.level[best * s.width + c]) best = r;
                double hz = ((double)(s.height - best) - 0.5) * row_hz;
                worst = fmax(worst, fabs(hz - CASES[i].hz));
            }
            /* Between two bins, 31 Hz apart, the neighbouring row may be as bright. */
            CHECK(worst <= 1.5 * row_hz + 16, "%g Hz at %d: %g Hz beside it", CASES[i].hz,
                  CASES[i].rate_hz, worst);
            CHECK(s.level[0] < 255, "bright at the top");
        }
        shades_free(&s);
        free(x);
    }
}

static void test_modulation(void) {
    for (int k = 3; k <= 12; k += 3) { /* 1, 2, 4, 8 Hz */
        double hz = MODULATION_LOWEST_HZ * exp2(k / 3.0), all = 0;
        size_t n = 24000 * 6;
        float *x = tone(n, 24000, 500, hz);
        level_facts l = {0};
        app_error err = {0};
        int best = 0;
        CHECK(x && level_measure(&l, x, n, 24000, &err) == EXIT_OK, "%s", err.text);
        for (int b = 0; b < MODULATION_BANDS; b++) {
            if (l.modulation_bands[b] > l.modulation_bands[best]) best = b;
            all += l.modulation_bands[b];
        }
        CHECK(best == k && l.modulation_bands[k] > 0.8, "%g Hz: most in band %d, %g", hz, best,
              l.modulation_bands[k]);
        CHECK(all <= 1.0001, "shares add up to %g", all);
        free(x);
    }
}

static size_t occurrences(const char *text, const char *of) {
    size_t n = 0;
    for (const char *at = strstr(text, of); at; at = strstr(at + 1, of)) n++;
    return n;
}

static int examine(analysis *a, plot_set *plots, const float *pcm, size_t n, int rate_hz) {
    app_error err = {0};
    plot_source from = {.pcm = pcm, .n = n, .rate_hz = rate_hz, .found = a};
    plots->n = 0;
    int rc = analyze_pcm(a, pcm, n, rate_hz, &err);
    if (rc == EXIT_OK) rc = plots_draw(plots, &from, &err);
    CHECK(rc == EXIT_OK, "%s", err.text);
    return rc;
}

/* Cuts are marked on the grid where they were made, as many as were found. */
static void test_marks(void) {
    soundfile r;
    analysis a;
    plot_set plots;
    app_error err = {0};
    if (!CHECK(soundfile_read(&r, "samples/conversation_user.flac", 9, &err) == EXIT_OK, "%s",
               err.text))
        return;
    if (examine(&a, &plots, r.pcm, r.n, r.facts.rate_hz) == EXIT_OK)
        CHECK(!strstr(plots.list[0].drawn.svg.out.data, "\"fault\""), "marks in a clean sound");
    plots_free(&plots);
    for (size_t i = 1920; i + 3840 <= r.n; i += 3840) /* neighbouring frames change places */
        for (size_t k = i; k < i + 1920; k++) {
            float x = r.pcm[k];
            r.pcm[k] = r.pcm[k + 1920];
            r.pcm[k + 1920] = x;
        }
    if (examine(&a, &plots, r.pcm, r.n, r.facts.rate_hz) == EXIT_OK) {
        int n = a.splice.n_marks[MARK_SEAM];
        CHECK(a.splice.period == 1920 && n == a.splice.broken && n > 10,
              "period %d, %d marks of %d", a.splice.period, n, a.splice.broken);
        for (int i = 0; i < n; i++)
            CHECK(a.splice.marks[MARK_SEAM][i].at % 1920 == 0, "a mark at %zu",
                  a.splice.marks[MARK_SEAM][i].at);
        size_t drawn = occurrences(plots.list[0].drawn.svg.out.data, "<rect class=\"fault\"");
        CHECK(drawn == (size_t)n, "%zu marks drawn of %d", drawn, n);
        CHECK(strstr(plots.list[0].drawn.alt, "places marked"), "%s", plots.list[0].drawn.alt);
        drawn = occurrences(plots.list[1].drawn.svg.out.data, "<rect class=\"fault\"");
        CHECK(!strcmp(plots.list[1].name, "closeup") && drawn >= 4 && drawn <= 7,
              "%zu marks in half a second", drawn);
    }
    plots_free(&plots);
    soundfile_free(&r);
}

/* A click is drawn at its time, in the SVG and in the pixels. */
static void test_waveform(void) {
    enum { N = 24000 };
    float *x = calloc(N, sizeof *x);
    analysis a;
    plot_set plots;
    x[N / 4] = 0.9f;
    if (examine(&a, &plots, x, N, 24000) == EXIT_OK) {
        const picture *p = &plots.list[0].drawn.pixels;
        size_t best = 0, most = 0;
        for (size_t at = 0; at < p->width; at++) {
            size_t n = 0;
            for (size_t y = 0; y < p->height; y++)
                n += !memcmp(p->rgb + 3 * (y * p->width + at), "\x2b\x6c\xb0", 3);
            if (n > most) most = n, best = at;
        }
        double wanted = FIGURE_PIXELS * (50 + 658 / 4.0);
        CHECK(fabs((double)best - wanted) <= 3, "drawn at pixel %zu, wanted %g", best, wanted);
        CHECK(most > 100, "%zu pixels high", most);
    }
    plots_free(&plots);
    free(x);
}

static const plot *plot_named(const plot_set *set, const char *name) {
    for (int i = 0; i < set->n; i++)
        if (!strcmp(set->list[i].name, name)) return &set->list[i];
    return NULL;
}

/* Height of the n-th rectangle of a colour, -1 when there are fewer. */
static double height_of(const plot *p, const char *class, int n) {
    char rect[40];
    double h = -1;
    snprintf(rect, sizeof rect, "<rect class=\"%s\"", class);
    const char *at = strstr(p->drawn.svg.out.data, rect);
    while (at && n-- > 0) at = strstr(at + 1, rect);
    const char *height = at ? strstr(at, "height=\"") : NULL;
    return height && sscanf(height, "height=\"%lf", &h) == 1 ? h : -1;
}

/* What a reference and a codec add. */
static void test_more_plots(void) {
    static analysis a;
    float x[2400] = {0};
    plot_set plots = {0};
    app_error err = {0};
    plot_source from = {.pcm = x, .n = 2400, .rate_hz = 24000, .found = &a};
    recode_facts *c = &a.codec;
    a.reference.measured = true;
    a.reference.n_pieces = 3;
    for (int i = 0; i < 3; i++)
        a.reference.pieces[i] =
            (reference_piece){.at_s = 0.08 * i, .from_s = 2 - 0.08 * i, .match = 1};
    c->measured = c->from_codes = true;
    c->codebooks = 4;
    for (int k = 0; k < 4; k++) c->possible[k] = 0.4 / (k + 1), c->codes.part[k] = 0.4 / (k + 1);
    c->codes.part[0] = 0.1;
    c->codes.judged = true;
    c->n_trials = 2;
    c->trials[0] = (recode_trial){.what = "acoustic codebooks <one> frame late",
                                  .alike = {.si_sdr_db = 35.04}};
    c->trials[1] = (recode_trial){.what = "as they are", .alike = {.si_sdr_db = -3.1}};
    if (!CHECK(plots_draw(&plots, &from, &err) == EXIT_OK, "%s", err.text)) return;
    const plot *pieces = plot_named(&plots, "pieces"), *agree = plot_named(&plots, "agreement"),
               *why = plot_named(&plots, "hypotheses");
    if (CHECK(pieces && agree && why, "%d plots", plots.n)) {
        CHECK(occurrences(pieces->drawn.svg.out.data, "<rect class=\"main\"") == 3, "three pieces");
        double possible = height_of(agree, "calm", 0), lost = height_of(agree, "fault", 0);
        CHECK(possible > 50 && fabs(lost / possible - 0.25) < 0.01, "a quarter of %g is %g",
              possible, lost);
        CHECK(fabs(height_of(agree, "main", 0) / possible - 0.5) < 0.01 &&
                  height_of(agree, "main", 3) < 0,
              "the other codebooks");
        CHECK(strstr(why->drawn.svg.out.data, "acoustic codebooks &lt;one&gt; frame late") &&
                  strstr(why->drawn.svg.out.data, ">35.0<") &&
                  strstr(why->drawn.svg.out.data, ">-3.1<"),
              "what may have happened");
        CHECK(strstr(agree->drawn.alt, "4 codebooks 10 percent"), "%s", agree->drawn.alt);
    }
    plots_free(&plots);
}

/* ---- the page ------------------------------------------------------------------------------- */

static void check_page(const char *page) {
    static const char *const BANNED[] = {"http:",   "https:", "<script", "src=",   "url(",
                                         "@import", "<link",  "onload",  "<iframe"};
    const char *wrong = unbalanced(page);
    CHECK(!wrong, "markup: %.60s", wrong);
    for (size_t i = 0; i < sizeof BANNED / sizeof BANNED[0]; i++)
        CHECK(!strstr(page, BANNED[i]), "it has %s", BANNED[i]);
    size_t pictures = occurrences(page, "<svg ");
    CHECK(pictures >= 2 && occurrences(page, "aria-label=\"") == pictures,
          "pictures without words");
    CHECK(strstr(page, "prefers-color-scheme:dark") && strstr(page, "width=device-width"),
          "dark mode, telephones");
    CHECK(strstr(page, "for comparison only"), "the legacy score has no label");
    CHECK(strstr(page, "moshi 0."), "no version");
}

static void add_file(html_report *page, const char *name, const float *pcm, size_t n,
                     const soundfile *like) {
    analysis a;
    plot_set plots;
    app_error err = {0};
    if (examine(&a, &plots, pcm, n, like->facts.rate_hz) == EXIT_OK)
        CHECK(html_report_add(page, name, like, &a, &plots, NULL, &err) == EXIT_OK, "%s", err.text);
    plots_free(&plots);
}

static void test_page(void) {
    static const char *const NAMES[] = {"<script>alert(1)</script>.wav",
                                        "\"><img src=x onload=alert(1)>", "a&b\xff\x1b[2J.wav"};
    soundfile r;
    app_error err = {0};
    html_report page = {0}, one = {0};
    app_buffer out = {0};
    if (!CHECK(soundfile_read(&r, "samples/03_tell_me_the_days_of_the_week_user.wav", 9, &err) ==
                   EXIT_OK,
               "%s", err.text))
        return;
    add_file(&page, NAMES[0], r.pcm, r.n, &r);
    for (size_t i = 0, k = r.n - 1; i < k; i++, k--) {
        float x = r.pcm[i];
        r.pcm[i] = r.pcm[k];
        r.pcm[k] = x;
    }
    add_file(&page, NAMES[1], r.pcm, r.n, &r);
    add_file(&one, NAMES[2], r.pcm, r.n, &r);
    if (CHECK(html_report_page(&out, &page, &err) == EXIT_OK, "%s", err.text)) {
        /* The second name holds what the page must not, but only as text. */
        CHECK(strstr(out.data, "&quot;&gt;&lt;img src=x onload=alert(1)&gt;"), "the second name");
        CHECK(!strstr(out.data, "<img"), "a name became an element");
        CHECK(strstr(out.data, "<h1 class=\"bad\">1 of 2 recordings failed</h1>"), "the title");
        CHECK(strstr(out.data, "&lt;script&gt;alert(1)&lt;/script&gt;.wav"), "the first name");
        CHECK(!unbalanced(out.data), "markup: %.60s", unbalanced(out.data));
    }
    app_buffer_free(&out);
    out = (app_buffer){0};
    if (CHECK(html_report_page(&out, &one, &err) == EXIT_OK, "%s", err.text)) {
        check_page(out.data);
        CHECK(strstr(out.data, "<h1 class=\"bad\">garbled: the whole sound runs backwards</h1>"),
              "the verdict is not on top");
        CHECK(strstr(out.data, "<bdi>a&amp;b??[2J.wav</bdi>"), "the third name");
        CHECK(occurrences(out.data, "data:image/png;base64,iVBORw0KGgo") == picture_can_encode(),
              "the spectrogram");
    }
    app_buffer_free(&out);
    html_report_free(&page);
    html_report_free(&one);
    soundfile_free(&r);
}

/* Nothing to draw must not divide by it. */
static void test_edges(void) {
    static const size_t LENGTHS[] = {1, 2, 31, 700, 7200};
    float *x = calloc(7200, sizeof *x);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < 7200; i++)
            x[i] = kind == 0 ? 0 : kind == 1 ? (i % 3 ? NAN : INFINITY) : i % 2 ? 30000 : -1;
        for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
            soundfile r = {.pcm = x, .n = LENGTHS[i], .facts = {.rate_hz = 24000, .channels = 1}};
            html_report page = {0};
            app_buffer out = {0};
            app_error err = {0};
            add_file(&page, "x", x, LENGTHS[i], &r);
            if (CHECK(html_report_page(&out, &page, &err) == EXIT_OK, "%s", err.text)) {
                check_page(out.data);
                CHECK(!strstr(out.data, "\"nan\"") && !strstr(out.data, "\"inf\""),
                      "a length that is no number");
            }
            app_buffer_free(&out);
            html_report_free(&page);
        }
    }
    free(x);
}

static int draw_all(const soundfile *r, const analysis *a, app_error *err) {
    plot_set plots;
    html_report page = {0};
    app_buffer out = {0}, png = {0};
    plot_source from = {.pcm = r->pcm, .n = r->n, .rate_hz = r->facts.rate_hz, .found = a};
    int rc = plots_draw(&plots, &from, err);
    if (rc == EXIT_OK) rc = html_report_add(&page, "x.wav", r, a, &plots, NULL, err);
    if (rc == EXIT_OK) rc = html_report_page(&out, &page, err);
    if (rc == EXIT_OK && picture_can_encode()) rc = figure_png(&png, &plots.list[0].drawn, err);
    app_buffer_free(&png);
    app_buffer_free(&out);
    html_report_free(&page);
    plots_free(&plots);
    return rc;
}

/* Without memory at any point: an error, and nothing lost (a sanitizer would tell). */
static void test_no_memory(void) {
    enum { N = 3000 };
    float x[N];
    static analysis a;
    soundfile r = {.pcm = x, .n = N, .facts = {.rate_hz = 8000, .channels = 1}};
    app_error err = {0};
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    for (int i = 0; i < N; i++) x[i] = (float)sin(i * 0.3);
    CHECK(analyze_pcm(&a, x, N, 8000, &err) == EXIT_OK, "%s", err.text);
    alloc_fail_at(0, false);
    CHECK(draw_all(&r, &a, &err) == EXIT_OK, "%s", err.text);
    long all = alloc_count();
    for (long n = 1; n <= all; n += 1 + n / 8) {
        err.text[0] = 0;
        alloc_fail_at(n, true);
        int rc = draw_all(&r, &a, &err);
        alloc_fail_at(0, false);
        CHECK(rc == EXIT_MEMORY && err.text[0], "allocation %ld of %ld: %d %s", n, all, rc,
              err.text);
    }
}

#endif

int main(void) {
    test_text();
    test_base64();
    CHECK(unbalanced("<a><b></a></b>") && unbalanced("<a>") && unbalanced("<a b=c></a>") &&
              unbalanced("a & b") && !unbalanced("<a b=\"c\">&amp;<d/></a>"),
          "the checker itself");
#ifdef APP_HAVE_KISSFFT
    test_spectrogram();
    test_modulation();
    test_waveform();
    test_marks();
    test_more_plots();
    test_page();
    test_edges();
    test_no_memory();
#else
    SKIP("built without kissfft: pictures");
#endif
    return check_done("test_html_report");
}
