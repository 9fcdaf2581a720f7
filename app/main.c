/* main.c - the program: which verbs there are, help, and how errors leave. */
#include "app.h"
#include "crash.h"
#include "device.h"
#include "plan.h"
#include "verb.h"

#include "moshi.h"

#include <stdio.h>
#include <string.h>

static const verb *const VERBS[] = {
    &verb_reply, &verb_codec_encode, &verb_codec_decode, &verb_codec_roundtrip, &verb_trace,
    &verb_check, &verb_compare,      &verb_doctor,       &verb_inspect,         &verb_convert,
    &verb_pull,  &verb_analyze,      &verb_bench};
enum { N_VERBS = sizeof VERBS / sizeof VERBS[0], HELP_COLUMN = 26, LINE_WIDTH = 92 };

/* ---- help ----------------------------------------------------------------------------------- */

/* Break `text` into lines that start at HELP_COLUMN; the first continues the current one. */
static void print_wrapped(const char *text) {
    int column = HELP_COLUMN;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column + n > LINE_WIDTH && column > HELP_COLUMN) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        printf("%.*s", n, text);
        column += n;
        text += n;
        if (*text == ' ') {
            text++;
            if (column + 1 + (int)strcspn(text, " ") <= LINE_WIDTH) {
                putchar(' ');
                column++;
            } else {
                column = LINE_WIDTH;
            }
        }
    }
    putchar('\n');
}

static void print_option(const option_spec *spec) {
    char left[80];
    const char *space = spec->value ? " " : "", *value = spec->value ? spec->value : "";
    if (spec->letter)
        snprintf(left, sizeof left, "-%c, --%s%s%s", spec->letter, spec->name, space, value);
    else
        snprintf(left, sizeof left, "    --%s%s%s", spec->name, space, value);
    int n = printf("  %-*s", HELP_COLUMN - 2, left);
    if (n > HELP_COLUMN || left[strlen(left) - 1] == ' ') printf("\n%*s", HELP_COLUMN, "");
    print_wrapped(spec->help);
}

static void print_verb_help(const verb *v) {
    printf("Usage: moshi %s %s\n\n%s\n\n%s\n\nOptions:\n", v->name, v->usage, v->summary, v->text);
    for (int i = 0; i < v->n_specs; i++) print_option(&v->specs[i]);
    print_option(&(option_spec){.name = "help", .letter = 'h', .help = "this text"});
    printf("\nExample:\n%s\n", v->example);
}

static void print_help(void) {
    printf("moshi %s - speech models of the Moshi family and the Mimi codec\n\n"
           "Usage: moshi VERB [arguments] [options]\n\nVerbs:\n",
           moshi_version());
    for (int i = 0; i < N_VERBS; i++) printf("  %-18s %s\n", VERBS[i]->name, VERBS[i]->summary);
    printf(
        "\n  moshi help VERB, moshi VERB --help   what a verb does, its options, an example\n"
        "  moshi --version                      the version\n"
        "\nExample:\n"
        "  moshi reply question.wav -o answer.wav\n"
        "\nWithout -m and without MOSHI_MODEL in the environment the small demo model inside\n"
        "the program is used. MOSHI_DEVICE names the device to compute on, MOSHI_USE_CPU=1 makes\n"
        "it the CPU. An empty value, 0, no and off mean that they are not set.\n"
        "\nResults go to standard output, everything else to standard error.\n"
        "Exit codes: 0 all is well, 1 what was examined failed, 2 wrong usage or an input or\n"
        "output file that cannot be used, 3 model file missing, damaged or not supported,\n"
        "4 device, 5 out of memory, 6 audio device, 7 network, 70 internal error, 128 + n\n"
        "interrupted by signal n (130: Ctrl-C).\n");
}

/* ---- finding the verb ----------------------------------------------------------------------- */

/* The verb that argv begins with and how many words name it; NULL when there is none. */
static const verb *find_verb(int argc, char **argv, int *words) {
    for (int i = 0; i < N_VERBS; i++) {
        const char *name = VERBS[i]->name, *space = strchr(name, ' ');
        size_t n = space ? (size_t)(space - name) : strlen(name);
        if (argc < 1 || strlen(argv[0]) != n || strncmp(argv[0], name, n) != 0) continue;
        *words = space ? 2 : 1;
        if (!space || (argc > 1 && !strcmp(argv[1], space + 1))) return VERBS[i];
    }
    return NULL;
}

/* Is `word` the first half of two-word verbs? */
static bool is_family(const char *word) {
    size_t n = strlen(word);
    for (int i = 0; i < N_VERBS; i++)
        if (!strncmp(VERBS[i]->name, word, n) && VERBS[i]->name[n] == ' ') return true;
    return false;
}

static void print_family_help(const char *word) {
    size_t n = strlen(word);
    printf("Usage: moshi %s VERB [arguments] [options]\n\nVerbs:\n", word);
    for (int i = 0; i < N_VERBS; i++)
        if (!strncmp(VERBS[i]->name, word, n) && VERBS[i]->name[n] == ' ')
            printf("  %-18s %s\n", VERBS[i]->name, VERBS[i]->summary);
    printf("\nExample:\n  moshi help %s\n", VERBS[1]->name);
}

/* Candidates are the second words of the family, or all first words. */
static int fail_unknown_verb(int argc, char **argv, app_error *err) {
    const char *words[N_VERBS + 2];
    char first[N_VERBS][32];
    int n = 0;
    bool family = is_family(argv[0]);
    if (family && argc < 2)
        return app_fail(err, EXIT_USAGE, "'%s' needs a second word; see moshi help %s", argv[0],
                        argv[0]);
    for (int i = 0; i < N_VERBS; i++) {
        const char *name = VERBS[i]->name, *space = strchr(name, ' ');
        bool member = !strncmp(name, argv[0], strlen(argv[0])) && space;
        snprintf(first[i], sizeof first[i], "%.*s", space ? (int)(space - name) : (int)strlen(name),
                 name);
        if (family && !member) continue;
        words[n++] = family ? space + 1 : first[i];
    }
    if (!family) words[n++] = "help";
    if (!family) words[n++] = "--version";
    const char *word = family ? argv[1] : argv[0], *lead = family ? argv[0] : "";
    const char *near = nearest_word(word, words, n);
    if (near)
        return app_fail(err, EXIT_USAGE, "unknown verb '%s%s%s'; did you mean '%s%s%s'?", lead,
                        *lead ? " " : "", word, lead, *lead ? " " : "", near);
    return app_fail(err, EXIT_USAGE, "unknown verb '%s%s%s'; see moshi --help", lead,
                    *lead ? " " : "", word);
}

static bool is_help(const char *word) {
    return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help");
}

static int run_help(int argc, char **argv, app_error *err) {
    int words;
    if (argc < 1 || (argc == 1 && is_help(argv[0]))) {
        print_help();
        return EXIT_OK;
    }
    const verb *v = find_verb(argc, argv, &words);
    if (!v && argc == 1 && is_family(argv[0])) {
        print_family_help(argv[0]);
        return EXIT_OK;
    }
    if (!v) return fail_unknown_verb(argc, argv, err);
    if (argc > words)
        return app_fail(err, EXIT_USAGE, "unexpected argument '%s' after 'help %s'", argv[words],
                        v->name);
    print_verb_help(v);
    return EXIT_OK;
}

static int run_verb(int argc, char **argv, app_error *err) {
    int words;
    const verb *v = find_verb(argc, argv, &words);
    if (!v && is_family(argv[0]) && argc > 1 && is_help(argv[1])) return run_help(1, argv, err);
    if (!v) return fail_unknown_verb(argc, argv, err);
    arguments args;
    int rc = options_parse(&args, v->specs, v->n_specs, v->max_positional, argc - words,
                           argv + words, err);
    if (rc != EXIT_OK) return rc;
    if (args.help) {
        print_verb_help(v);
        return EXIT_OK;
    }
    crash_note_verb(v->name);
    device_tell_crashes();
    return v->run(&args, err);
}

/* The command line of another program's test instructions, which people follow to the letter. */
static int run_dev(int argc, char **argv, app_error *err) {
    static char check[] = "check";
    if (!app_env("MOSHI_TEST_MODE"))
        return app_fail(err, EXIT_USAGE,
                        "--dev only runs the audio test, and only with MOSHI_TEST_MODE=1 in the "
                        "environment (0, no, off and nothing mean that it is not set); the same in "
                        "short: moshi check");
    argv[0] = check;
    return run_verb(argc, argv, err);
}

static int run(int argc, char **argv, app_error *err) {
    if (argc < 1) return app_fail(err, EXIT_USAGE, "no verb given; see moshi --help");
    if (is_help(argv[0])) return run_help(argc - 1, argv + 1, err);
    if (!strcmp(argv[0], "--version") || !strcmp(argv[0], "-V")) {
        if (argc > 1)
            return app_fail(err, EXIT_USAGE, "unexpected argument '%s' after --version", argv[1]);
        printf("moshi %s\n", moshi_version());
        return EXIT_OK;
    }
    if (!strcmp(argv[0], "--dev")) return run_dev(argc, argv, err);
    if (argv[0][0] == '-') {
        static const char *const words[] = {"--help", "--version", "--dev"};
        const char *near = nearest_word(argv[0], words, 3);
        return app_fail(err, EXIT_USAGE, "unknown option '%s'; %s%s%s", argv[0],
                        near ? "did you mean '" : "the verb comes first: see moshi --help",
                        near ? near : "", near ? "'?" : "");
    }
    return run_verb(argc, argv, err);
}

static const probe_entry PROBES[] = {
    {"devices", trial_list}, {"trial", trial_run}, {"plan", plan_run}};

int main(int argc, char **argv) {
    app_error err = {0};
    app_open_standard_files();
    app_catch_signals();
    crash_install();
    probe_child(argc, argv, PROBES, sizeof PROBES / sizeof *PROBES);
    int rc = run(argc - 1, argv + 1, &err);
    if (rc == EXIT_OK) rc = app_flush_stdout(&err);
    if (rc != EXIT_OK && err.text[0]) {
        fputs("moshi: ", stderr);
        app_print_clean(stderr, err.text);
        putc('\n', stderr);
    }
    return rc;
}
