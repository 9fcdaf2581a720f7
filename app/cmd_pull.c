/* cmd_pull.c - `moshi pull`: download a model. */
#include "pull.h"
#include "repos.h"
#include "verb.h"

#include <stdio.h>
#include <stdlib.h>

static int run(const arguments *args, app_error *err) {
    hub_id id;
    char *dir;
    if (option_given(args, "list")) {
        if (args->n_positional)
            return app_fail(err, EXIT_USAGE, "pull: --list takes no arguments, found '%s'",
                            args->positional[0]);
        print_known_repos();
        return EXIT_OK;
    }
    if (args->n_positional == 0)
        return app_fail(
            err, EXIT_USAGE,
            "pull: which repository? moshi pull ORG/NAME; moshi pull --list shows some");
    if (!hub_parse(&id, args->positional[0]))
        return app_fail(err, EXIT_USAGE, "pull: wanted ORG/NAME or ORG/NAME@REVISION, found '%s'",
                        args->positional[0]);
    int rc = pull_repo(&id, args->positional + 1, args->n_positional - 1,
                       option_given(args, "quiet"), &dir, err);
    if (rc == EXIT_OK) printf("%s\n", dir);
    free(dir);
    return rc;
}

static const option_spec SPECS[] = {
    {.name = "list", .kind = OPTION_FLAG, .help = "print the repositories this program knows"},
    {.name = "quiet", .letter = 'q', .kind = OPTION_FLAG, .help = "no progress and no notes"},
};

const verb verb_pull = {
    .name = "pull",
    .usage = "ORG/NAME[@REVISION] [FILE...] [options]",
    .summary = "download a model into the cache that tools for the hub share",
    .text =
        "Downloads the files a model needs, or those named, and prints the directory they are\n"
        "in; -m ORG/NAME then finds them. What was interrupted goes on where it stopped, and\n"
        "nothing gets its name before its hash is verified.\n\n"
        "HF_HOME or HF_HUB_CACHE say where the cache is, HF_TOKEN who you are, HF_ENDPOINT\n"
        "which server to ask; with HF_HUB_OFFLINE=1 nothing is asked. Exit code 3: there is no\n"
        "such repository or file, or its licence was not accepted; 7: the network.",
    .example = "  moshi pull kyutai/moshiko-pytorch-bf16\n"
               "  moshi reply question.wav -o answer.wav -m kyutai/moshiko-pytorch-bf16",
    VERB_OPTIONS(SPECS),
    .max_positional = ARGUMENTS_MAX,
    .run = run,
};
