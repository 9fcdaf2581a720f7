/* html_report.c - the page: verdict, reasons, pictures, numbers. It is XML too, so that strict
 * readers can check it. */
#include "html_report.h"

#include "build.h"

#include <math.h>
#include <string.h>

/* Hypotheses less likely than this are not worth a line. */
static const double WORTH_SAYING = 0.05;

static const char STYLE[] =
    ":root{color-scheme:light dark;--paper:#fff;--card:#f5f6f8;--text:#23272d;--dim:#5a626c;"
    "--grid:#d4d8de;--main:#2b6cb0;--calm:#a9bdd4;--fault:#c4222c;--good:#1a7a3a}\n"
    "@media (prefers-color-scheme:dark){:root{--paper:#15181c;--card:#1e2228;--text:#e4e7eb;"
    "--dim:#a0a8b2;--grid:#3a4049;--main:#6aa9e9;--calm:#42566d;--fault:#ff6b6b;"
    "--good:#57c878}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1rem;max-width:56rem;background:var(--paper);color:var(--text);"
    "font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}\n"
    "h2{font-size:1.25rem;margin:2.5rem 0 .5rem;padding-top:1rem;border-top:1px solid "
    "var(--grid)}\n"
    "h3{font-size:1.05rem;margin:1.5rem 0 .25rem}\n"
    "p{margin:.4rem 0}.dim,figcaption,footer{color:var(--dim);font-size:.9rem}\n"
    ".bad{color:var(--fault)}.good{color:var(--good)}\n"
    ".verdict{background:var(--card);border-left:.4rem solid currentcolor;padding:.6rem 1rem}\n"
    ".verdict p{color:var(--text)}.verdict strong{display:inline-block;font-size:1.25rem}\n"
    "table{border-collapse:collapse;width:100%;font-size:.95rem}\n"
    "th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;"
    "border-bottom:1px solid var(--grid)}\n"
    "th{overflow-wrap:normal;min-width:5.5rem}td.n{white-space:nowrap;font-variant-numeric:tabular-"
    "nums}\n"
    "a{color:var(--main)}h1::first-letter,.verdict strong::first-letter{text-transform:uppercase}\n"
    ".bar{display:block;width:5rem;max-width:20vw;background:var(--grid)}"
    ".bar span{display:block;height:.4rem;background:currentcolor}\n"
    "figure{margin:1rem 0}.scroll{overflow-x:auto;background:var(--card);padding:.5rem}\n"
    "svg{display:block;width:100%;min-width:34rem;height:auto}\n"
    "svg text{font:12px system-ui,sans-serif}\n"
    "svg .text{fill:var(--text)}svg .grid{fill:var(--grid)}svg .main{fill:var(--main)}"
    "svg .calm{fill:var(--calm)}svg .fault{fill:var(--fault)}\n"
    "footer{margin-top:2.5rem;border-top:1px solid var(--grid);padding-top:.5rem}\n"
    "@media print{.scroll{overflow:visible}svg{min-width:0}}\n";

/* ---- words ---------------------------------------------------------------------------------- */

static const char *mood(const analysis *a) {
    return analysis_passes(a) ? "good" : "bad";
}

/* What the verdict means, before the name of what was found, if that says more. */
static const char *meaning(analysis_verdict verdict) {
    switch (verdict) {
    case VERDICT_CLEAN:
        return "Nothing wrong was found: this is speech as it was spoken.";
    case VERDICT_GARBLED:
        return "Something happened to this recording. Most likely: ";
    case VERDICT_NOT_SPEECH:
        return "There is sound in it, but it is not speech.";
    case VERDICT_SILENT:
        return "There is nothing to hear.";
    case VERDICT_DIFFERENT:
        return "This is speech, but it does not say what the reference says.";
    default:
        return "Nothing wrong was found, but there is too little speech to judge by.";
    }
}

static const finding *first_fault(const analysis *a) {
    return a->found.n > 0 && a->found.list[0].confidence >= FINDING_FAULT ? &a->found.list[0]
                                                                          : NULL;
}

/* ---- parts of a section --------------------------------------------------------------------- */

static void add_verdict(markup *m, const analysis *a) {
    const finding *fault = first_fault(a);
    markup_print(m, "<div class=\"verdict %s\"><strong>%s</strong>", mood(a),
                 analysis_verdict_name(a->verdict));
    if (analysis_has_score(a)) markup_print(m, " score %.0f of 100", a->score);
    markup_print(m, "\n<p>");
    markup_add(m, meaning(a->verdict));
    if (fault && a->verdict == VERDICT_GARBLED) {
        markup_text(m, finding_name(fault->kind));
        markup_print(m, " (%.0f&#160;%% sure).", 100 * fault->confidence);
    }
    markup_print(m, "</p></div>\n");
}

static void add_findings(markup *m, const analysis *a) {
    int shown = 0;
    for (int i = 0; i < a->found.n; i++) {
        const finding *f = &a->found.list[i];
        if (f->confidence < WORTH_SAYING) continue;
        if (shown++ == 0)
            markup_print(m, "<h3>What may have happened</h3>\n<table><thead><tr><th>sure</th>"
                            "<th>what, and why</th></tr></thead><tbody>\n");
        double percent = 100 * f->confidence;
        const char *class = f->confidence >= FINDING_FAULT ? "bad" : "dim";
        markup_print(m,
                     "<tr><td class=\"n %s\">%.0f&#160;%%<span class=\"bar\"><span "
                     "style=\"width:%.0f%%\"></span></span></td><td><b class=\"%s\">",
                     class, percent, percent, class);
        markup_text(m, finding_name(f->kind));
        markup_print(m, "</b> <span class=\"dim\">%s</span><br/>", finding_id(f->kind));
        markup_text(m, f->evidence);
        markup_print(m, "</td></tr>\n");
    }
    if (shown)
        markup_print(m, "</tbody></table>\n<p class=\"dim\">From 50 %% on it is a fault.</p>\n");
    else
        markup_print(m, "<p>None of the known kinds of damage is likely.</p>\n");
}

static void add_plots(markup *m, const plot_set *plots) {
    markup_print(m, "<h3>Pictures</h3>\n");
    for (int i = 0; i < plots->n; i++) {
        const plot *p = &plots->list[i];
        /* It scrolls where it does not fit: then keys must reach it. */
        markup_print(m, "<figure><div class=\"scroll\" tabindex=\"0\">");
        figure_svg(m, &p->drawn);
        markup_print(m, "</div><figcaption><b>%s</b> ", p->name);
        markup_text(m, p->caption);
        markup_print(m, "</figcaption></figure>\n");
    }
    if (!picture_can_encode())
        markup_print(m,
                     "<p class=\"dim\">No spectrogram: this moshi was built without libpng.</p>");
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* A row begins; the value follows, then end_fact(). */
static void fact(markup *m, const char *name) {
    markup_print(m, "<tr><th scope=\"row\">%s</th><td>", name);
}

static void end_fact(markup *m) {
    markup_print(m, "</td></tr>\n");
}

static void add_sound_facts(markup *m, const soundfile *s, const analysis *a) {
    const level_facts *l = &a->level;
    fact(m, "file");
    markup_text(m, s->facts.format);
    markup_print(m, ", %d Hz, %d channel%s, %.2f s%s", s->facts.rate_hz, s->facts.channels,
                 s->facts.channels == 1 ? "" : "s", a->seconds,
                 s->whole ? "" : " examined; it is longer");
    end_fact(m);
    fact(m, "level");
    markup_print(m, "peak %.3f of full scale, speech %.1f dB, background %.1f dB", l->peak,
                 l->active_db, l->noise_db);
    end_fact(m);
    fact(m, "pauses");
    markup_print(m, "%d, the longest %.2f s; sounding %.0f %% of the time", l->pauses,
                 l->longest_pause_s, 100 * l->active_share);
    end_fact(m);
    fact(m, "clipping, offset");
    markup_print(m, "%.3f %% of the sounding samples in flat tops; mean %.3f of the RMS",
                 100 * l->flat_share, l->dc);
    end_fact(m);
    fact(m, "spectrum");
    markup_print(m, "99 %% of the power below %.0f Hz; above 1 kHz %+.1f dB relative to below",
                 l->band_hz, l->tilt_db);
    end_fact(m);
    fact(m, "modulation");
    markup_print(m, "%.0f %% of the level's movement at 2 to 10 Hz, peak at %.1f Hz",
                 100 * l->modulation, l->modulation_peak_hz);
    end_fact(m);
}

static void add_speech_facts(markup *m, const analysis *a) {
    const voice_facts *v = &a->voice;
    const splice_facts *s = &a->splice;
    if (v->heard_s > 0) {
        fact(m, "direction of time");
        markup_print(m, "%s (%+.1f; speech has about +10, reversed speech -10)",
                     fabs(v->direction) < 2 ? "open"
                     : v->direction > 0     ? "forwards"
                                            : "backwards",
                     v->direction);
        end_fact(m);
        fact(m, "speed");
        markup_print(m, "%.2f times that of ordinary speech", exp2(v->rate_octaves));
        end_fact(m);
        fact(m, "voice");
        markup_print(m, "pitch %.0f Hz, %.0f %% of the sound is voiced", v->pitch_hz,
                     100 * v->voiced_share);
        end_fact(m);
    }
    fact(m, "seams");
    markup_print(m, "%.1f outliers per second; prediction gains %.1f dB", s->events_per_s,
                 s->prediction_gain_db);
    if (s->surprise > 1)
        markup_print(m, "; %d of %d boundaries of %d samples broken", s->broken, s->boundaries,
                     s->period);
    end_fact(m);
    fact(m, "legacy score");
    markup_print(m,
                 "%d of 100, for comparison only: four features that cannot tell speech from "
                 "reversed speech (silence %.2f, band %.2f, zero crossings %.3f, dynamics %.2f)",
                 a->level.legacy.points, a->level.legacy.silence, a->level.legacy.band,
                 a->level.legacy.zcr, a->level.legacy.dynamics);
    end_fact(m);
}

static void add_likeness(markup *m, const char *name, const char *what, const likeness *l) {
    fact(m, name);
    markup_text(m, what);
    markup_print(m, "SI-SDR %.1f dB, ", l->si_sdr_db);
    if (l->understood) markup_print(m, "STOI %.3f, ESTOI %.3f, ", l->stoi, l->estoi);
    markup_print(m, "mel-cepstral distance %.1f dB", l->mel_cepstral_db);
    end_fact(m);
}

static void add_reference_facts(markup *m, const reference_facts *r) {
    fact(m, "reference");
    markup_text(m, reference_verdict_name(r->verdict));
    markup_print(m, "; laid at %+.4f s, %+.1f dB%s, %.2f s in common, %.0f %% of it covered",
                 r->laid.delay_s, r->laid.gain_db, r->laid.inverted ? ", upside down" : "",
                 r->laid.common_s, 100 * r->laid.covered);
    end_fact(m);
    add_likeness(m, "as it is", "", &r->alike);
    for (int i = 0; i < r->n_trials; i++) {
        char what[120];
        snprintf(what, sizeof what, "%s: ", r->trials[i].what);
        add_likeness(m, "undone", what, &r->trials[i].alike);
    }
}

static void add_codec_facts(markup *m, const recode_facts *c) {
    fact(m, "codec");
    markup_print(m,
                 "%d codebooks, %zu frames that sound; %.0f %% of the first codebook's codes come "
                 "back from the sound itself",
                 c->codebooks, c->frames, 100 * c->returns[0]);
    end_fact(m);
    add_likeness(m, "round trip", "", &c->roundtrip);
    if (!c->from_codes) return;
    fact(m, "given codes");
    markup_print(m,
                 "%.0f %% of the first codebook come back from the recording, %.0f %% would from "
                 "their own decoding",
                 100 * c->codes.part[0], 100 * c->possible[0]);
    if (c->displaced) {
        markup_print(m, "; they are displaced: ");
        markup_text(m, c->displaced->name);
        markup_print(m, " (undone, %.0f %% come back)", 100 * c->without);
    }
    end_fact(m);
}

static void add_facts(markup *m, const soundfile *s, const analysis *a) {
    markup_print(m, "<h3>Measured</h3>\n<table><tbody>\n");
    add_sound_facts(m, s, a);
    add_speech_facts(m, a);
    if (a->reference.measured) add_reference_facts(m, &a->reference);
    if (a->codec.measured) add_codec_facts(m, &a->codec);
    markup_print(m, "</tbody></table>\n");
}

/* ---- the page ------------------------------------------------------------------------------- */

static void add_summary(html_report *r, const char *path, const analysis *a,
                        const html_note *note) {
    const finding *fault = first_fault(a);
    bool noted = note && note->fails;
    markup_print(&r->summary, "<tr><td><a href=\"#file-%d\"><bdi>", r->files);
    markup_text(&r->summary, path);
    markup_print(&r->summary, "</bdi></a></td><td class=\"n %s\">%s</td><td class=\"n\">", mood(a),
                 analysis_verdict_name(a->verdict));
    if (analysis_has_score(a)) markup_print(&r->summary, "%.0f", a->score);
    markup_print(&r->summary, "</td><td>");
    if (fault) markup_text(&r->summary, finding_name(fault->kind));
    if (noted) markup_print(&r->summary, "%s<span class=\"bad\">", fault ? "<br/>" : "");
    if (noted) markup_text(&r->summary, note->says);
    if (noted) markup_print(&r->summary, "</span>");
    markup_print(&r->summary, "</td></tr>\n");
    snprintf(r->worst, sizeof r->worst, "%s%s%s", analysis_verdict_name(a->verdict),
             fault && a->verdict == VERDICT_GARBLED ? ": " : "",
             fault && a->verdict == VERDICT_GARBLED ? finding_name(fault->kind) : "");
    if (noted && !fault) snprintf(r->worst, sizeof r->worst, "%s", note->says);
}

int html_report_add(html_report *r, const char *path, const soundfile *file, const analysis *a,
                    const plot_set *plots, const html_note *note, app_error *err) {
    markup *m = &r->sections;
    r->summary.err = m->err = err;
    r->files++;
    r->failed += !analysis_passes(a) || (note && note->fails);
    add_summary(r, path, a, note);
    /* Whatever direction the letters of a name run in, they stay in their place. */
    markup_print(m, "<section id=\"file-%d\">\n<h2><bdi>", r->files);
    markup_text(m, path);
    markup_print(m, "</bdi></h2>\n");
    if (note) {
        markup_print(m, "<p class=\"%s\">", note->fails ? "bad" : "good");
        markup_text(m, note->says);
        markup_print(m, "</p>\n");
    }
    add_verdict(m, a);
    add_findings(m, a);
    add_plots(m, plots);
    add_facts(m, file, a);
    markup_print(m, "</section>\n");
    return m->rc != EXIT_OK ? m->rc : r->summary.rc;
}

static void add_title(markup *m, const html_report *r) {
    if (r->files == 1)
        markup_text(m, r->worst);
    else if (r->failed == 0)
        markup_print(m, "all %d recordings passed", r->files);
    else
        markup_print(m, "%d of %d recordings failed", r->failed, r->files);
}

int html_report_page(app_buffer *out, const html_report *r, app_error *err) {
    markup m = {.err = err};
    markup_print(&m, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
                     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n"
                     "<title>moshi analyze: ");
    add_title(&m, r);
    markup_print(&m, "</title>\n<style>\n");
    markup_add(&m, STYLE);
    markup_print(&m,
                 "</style></head>\n<body><main>\n<header><p class=\"dim\">moshi analyze: is it "
                 "intact speech?</p>\n<h1 class=\"%s\">",
                 r->failed ? "bad" : "good");
    add_title(&m, r);
    markup_print(&m, "</h1></header>\n");
    if (r->files > 1) {
        markup_print(&m, "<table><thead><tr><th>recording</th><th>verdict</th><th>score</th>"
                         "<th>most likely</th></tr></thead><tbody>\n");
        markup_append(&m, &r->summary);
        markup_print(&m, "</tbody></table>\n");
    }
    markup_append(&m, &r->sections);
    markup_print(&m, "</main>\n<footer><p>The score is 100 less the confidence in the most likely "
                     "fault, in percent; below 50 a recording fails. It says how sure the verdict "
                     "is, not how pleasant the voice is.</p>\n<p>");
    markup_text(&m, build_id());
    markup_print(&m, "</p></footer>\n</body></html>\n");
    *out = m.out;
    return m.rc;
}

void html_report_free(html_report *r) {
    markup_free(&r->summary);
    markup_free(&r->sections);
    *r = (html_report){0};
}
