/* report.c - the files of a report: opened early, written when they are ready, named at the end. */
#include "report.h"

#include "model.h"
#include "outfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct report {
    const arguments *args;
    html_report page;
    bool with_page;
    outfile page_file;
    const char *folder; /* for pictures; NULL: none wanted */
    bool made_folder;
    int n_pictures;
    outfile pictures[ARGUMENTS_MAX * PLOTS_MAX];
};

/* ---- where ---------------------------------------------------------------------------------- */

static int refuse_inputs(const report *r, const char *path, app_error *err) {
    static const char *const INPUTS[] = {"reference", "codes"};
    const char *taken = NULL;
    for (size_t i = 0; i < sizeof INPUTS / sizeof INPUTS[0] && !taken; i++) {
        const char *input = option_text(r->args, INPUTS[i]);
        if (input && same_file(path, input)) taken = input;
    }
    for (int i = 0; i < r->args->n_positional && !taken; i++)
        if (same_file(path, r->args->positional[i])) taken = r->args->positional[i];
    if (!taken && (option_given(r->args, "model") || option_given(r->args, "codes")))
        return model_check_output(r->args, path, NULL, err);
    if (!taken) return EXIT_OK;
    return app_fail(err, EXIT_USAGE, "%s: is the input file %s; wanted another name", path, taken);
}

static int open_page(report *r, const char *path, app_error *err) {
    if (is_standard_output(path))
        return app_fail(err, EXIT_USAGE,
                        "--report -: the verdict goes to standard output; wanted a file name");
    int rc = refuse_inputs(r, path, err);
    if (rc == EXIT_OK) rc = outfile_open(&r->page_file, path, NULL, OUTFILE_IN_ORDER, err);
    r->with_page = rc == EXIT_OK;
    return rc;
}

static int open_folder(report *r, const char *path, app_error *err) {
    if (!picture_can_encode())
        return app_fail(
            err, EXIT_USAGE,
            "--png: this moshi was built without libpng (Debian: libpng-dev, then build "
            "again)");
    r->made_folder = mkdir(path, 0777) == 0;
    struct stat st;
    if (!r->made_folder && errno != EEXIST)
        return app_fail(err, EXIT_USAGE, "--png %s: cannot make this directory: %s", path,
                        strerror(errno));
    r->folder = path;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return app_fail(err, EXIT_USAGE, "--png %s: is no directory; wanted one for the pictures",
                        path);
    if (access(path, W_OK | X_OK) != 0)
        return app_fail(err, EXIT_USAGE, "--png %s: cannot write there: %s", path, strerror(errno));
    return EXIT_OK;
}

int report_open(report **out, const arguments *args, app_error *err) {
    const char *page = option_text(args, "report"), *folder = option_text(args, "png");
    *out = NULL;
    if (!page && !folder) return EXIT_OK;
    report *r = calloc(1, sizeof *r);
    if (!r) return app_no_memory(err);
    r->args = args;
    int rc = page ? open_page(r, page, err) : EXIT_OK;
    if (rc == EXIT_OK && folder) rc = open_folder(r, folder, err);
    if (rc != EXIT_OK) {
        report_close(r);
        return rc;
    }
    *out = r;
    return EXIT_OK;
}

/* ---- what ----------------------------------------------------------------------------------- */

/* DIR/waveform.png; with several recordings DIR/NAME-waveform.png, NAME without directories. */
static char *picture_path(const report *r, const char *recording, const char *shown) {
    const char *slash = strrchr(recording, '/'), *name = slash ? slash + 1 : recording;
    bool several = r->args->n_positional > 1;
    size_t size = strlen(r->folder) + strlen(name) + strlen(shown) + sizeof "/-.png";
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%s%s%s.png", r->folder, several ? name : "", several ? "-" : "",
                 shown);
    return path;
}

static int write_picture(report *r, const char *path, const figure *f, app_error *err) {
    app_buffer png = {0};
    outfile *file = &r->pictures[r->n_pictures];
    int rc = refuse_inputs(r, path, err);
    if (rc == EXIT_OK && r->with_page && same_file(path, r->page_file.path))
        rc = app_fail(err, EXIT_USAGE, "--report and --png would both write %s", path);
    for (int i = 0; i < r->n_pictures && rc == EXIT_OK; i++)
        if (!strcmp(r->pictures[i].path, path))
            rc = app_fail(err, EXIT_USAGE,
                          "--png: two recordings of one name would both write %s; wanted one of "
                          "them at a time",
                          path);
    if (rc == EXIT_OK) rc = figure_png(&png, f, err);
    if (rc == EXIT_OK) {
        rc = outfile_open(file, path, NULL, OUTFILE_IN_ORDER, err);
        if (rc == EXIT_OK) r->n_pictures++;
    }
    if (rc == EXIT_OK) rc = outfile_write(file, png.data, png.n, err);
    app_buffer_free(&png);
    return rc;
}

int report_add(report *r, const char *path, const soundfile *file, const analysis *a,
               app_error *err) {
    if (!r) return EXIT_OK;
    plot_set plots;
    plot_source from = {.pcm = file->pcm, .n = file->n, .rate_hz = file->facts.rate_hz, .found = a};
    int rc = plots_draw(&plots, &from, err);
    if (rc == EXIT_OK && r->with_page)
        rc = html_report_add(&r->page, path, file, a, &plots, NULL, err);
    for (int i = 0; rc == EXIT_OK && r->folder && i < plots.n; i++) {
        char *to = picture_path(r, path, plots.list[i].name);
        rc = to ? write_picture(r, to, &plots.list[i].drawn, err) : app_no_memory(err);
        free(to);
    }
    plots_free(&plots);
    return rc;
}

int report_commit(report *r, app_error *err) {
    if (!r) return EXIT_OK;
    app_buffer page = {0};
    int rc = EXIT_OK;
    if (r->with_page) rc = html_report_page(&page, &r->page, err);
    if (rc == EXIT_OK && r->with_page) rc = outfile_write(&r->page_file, page.data, page.n, err);
    app_buffer_free(&page);
    for (int i = 0; rc == EXIT_OK && i < r->n_pictures; i++)
        rc = outfile_commit(&r->pictures[i], err);
    if (rc == EXIT_OK && r->with_page) rc = outfile_commit(&r->page_file, err);
    if (rc == EXIT_OK) r->made_folder = false;
    return rc;
}

void report_close(report *r) {
    if (!r) return;
    outfile_close(&r->page_file);
    for (int i = 0; i < r->n_pictures; i++) outfile_close(&r->pictures[i]);
    /* Fails when something is in it, and that is well. */
    if (r->made_folder) rmdir(r->folder);
    html_report_free(&r->page);
    free(r);
}
