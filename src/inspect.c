/* inspect.c - what is this model, would it run, and what is wrong with it. */
#include "dry.h"
#include "foreign.h"
#include "health.h"
#include "model.h"
#include "parts.h"
#include "presets.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 256, NOT_NEEDED = MO_PART_COUNT, ALL_PARTS, LM = 0, MIMI = 1, LOOK_BACK = 512 };

/* What moshi_model_info points into. The info comes first: the caller holds its address. */
typedef struct inspection {
    moshi_model_info info;
    mo_model_files files;
    char *summary, *reason;
    char numbers[32];
    moshi_tensor_info *tensors;
    mo_tensor_note *notes; /* [n_tensors] */
    mo_measured *measured; /* [n_tensors] */
    moshi_part_info parts[ALL_PARTS];
    moshi_finding *findings;
    size_t n_findings, cap_findings;
    moshi_error *err;
} inspection;

/* The checkpoint of a language model or of a codec, as far as there is one. */
static const mo_checkpoint *checkpoint_of(const inspection *in, int which) {
    const mo_model_files *f = &in->files;
    if (which == LM) return f->lm_file.tensors ? &f->lm_file : NULL;
    return f->has_mimi ? &f->mimi_file : NULL;
}

/* Its first tensor among all. */
static size_t first_of(const inspection *in, int which) {
    const mo_checkpoint *lm = checkpoint_of(in, LM);
    return which == MIMI && lm ? lm->n_tensors : 0;
}

static int no_memory(inspection *in) {
    return mo_fail(in->err, MOSHI_ENOMEM, "out of memory");
}

/* ---- findings ------------------------------------------------------------------------------- */

/* `text` is copied; tensor and file live as long as the files. */
static int add_finding(inspection *in, bool fatal, const char *kind, const char *file,
                       const char *tensor, const char *text) {
    if (in->n_findings == in->cap_findings) {
        size_t cap = in->cap_findings ? 2 * in->cap_findings : 16;
        moshi_finding *bigger = realloc(in->findings, cap * sizeof *bigger);
        if (!bigger) return no_memory(in);
        in->findings = bigger;
        in->cap_findings = cap;
    }
    char *copy = mo_format("%s", text), *name = tensor ? mo_format("%s", tensor) : NULL;
    if (!copy || (tensor && !name)) {
        free(copy);
        free(name);
        return no_memory(in);
    }
    in->findings[in->n_findings++] = (moshi_finding){fatal, kind, file, name, copy};
    return 0;
}

/* What the audit of one checkpoint calls. */
typedef struct listener {
    inspection *in;
    const char *file;
    size_t faults[3]; /* by mo_fault */
} listener;

/* Parts of one tensor fail one by one, and those of stacked ones in turns, layer after layer. */
static bool is_told(const inspection *in, const char *file, const char *tensor) {
    for (size_t i = in->n_findings; i > 0 && in->n_findings - i < LOOK_BACK; i--) {
        const moshi_finding *f = &in->findings[i - 1];
        if (f->tensor && !strcmp(f->tensor, tensor) && !strcmp(f->file, file)) return true;
    }
    return false;
}

static int on_fault(void *user, mo_fault fault, const char *tensor, const char *text) {
    static const char *const kinds[] = {"missing", "unfit", "surplus"};
    listener *l = user;
    if (is_told(l->in, l->file, tensor)) return 0;
    l->faults[fault]++;
    return add_finding(l->in, true, kinds[fault], l->file, tensor, text);
}

static int rank(const moshi_finding *f) {
    static const char *const order[] = {"unsupported", "incomplete", "mismatch", "damaged",
                                        "missing",     "unfit",      "surplus",  "odd"};
    int r = 0;
    while (strcmp(order[r], f->kind) != 0) r++;
    return r + (f->fatal ? 0 : 10) - (f->tensor ? 0 : 1);
}

/* The gravest first, else in the order they were found. */
static int sort_findings(inspection *in) {
    moshi_finding *sorted = mo_calloc(in->n_findings + 1, sizeof *sorted);
    size_t n = 0;
    if (!sorted) return no_memory(in);
    for (int r = -1; n < in->n_findings; r++)
        for (size_t i = 0; i < in->n_findings; i++)
            if (rank(&in->findings[i]) == r) sorted[n++] = in->findings[i];
    free(in->findings);
    in->findings = sorted;
    in->cap_findings = n;
    return 0;
}

/* ---- structure ------------------------------------------------------------------------------ */

/* Parts that could not be opened. A codec alone is complete. */
static int note_incomplete(inspection *in) {
    const mo_model_files *f = &in->files;
    bool codec = f->codec_only || f->mimi_named;
    for (int i = 0; i < 3; i++) {
        if (!f->why[i].text[0] || (codec && i != 1)) continue;
        bool refused = i == 0 && f->lm_file.tensors; /* its weights are there */
        int rc = add_finding(in, true, refused ? "unsupported" : "incomplete", NULL, NULL,
                             f->why[i].text);
        if (rc < 0) return rc;
    }
    return 0;
}

static int note_frame_rate(inspection *in) {
    const mo_model_files *f = &in->files;
    char text[TEXT_BYTES];
    if (!f->has_lm || !f->has_mimi || fabs(f->mimi.frame_rate_hz - 12.5) < 1e-6) return 0;
    snprintf(text, sizeof text,
             "the codec makes %g frames a second; models of this family are trained on 12.5",
             f->mimi.frame_rate_hz);
    return add_finding(in, false, "odd", f->mimi_file.file.name, NULL, text);
}

/* Above it, a finding; published models have 0.6 to 0.8, and are still understood at 1.2. */
#define ODD_TEMPERATURE 1.5f

/* Sampling far from what any model of the family was published with sounds like damage. */
static int note_sampling(inspection *in) {
    const mo_model_files *f = &in->files;
    char text[TEXT_BYTES];
    float temps[2] = {f->lm.audio_temp, f->lm.text_temp};
    static const char *const of[] = {"the voice", "the words"};
    for (int i = 0; f->has_lm && i < 2; i++) {
        if (temps[i] <= ODD_TEMPERATURE) continue;
        snprintf(text, sizeof text,
                 "lm_gen_config gives %s a temperature of %g: what is sampled is next to random; "
                 "models of this family are published with 0.6 to 0.8",
                 of[i], (double)temps[i]);
        int rc = add_finding(in, false, "odd", f->config.name, NULL, text);
        if (rc < 0) return rc;
    }
    return 0;
}

/* A file most of whose tensors do not fit is another one than the configuration is about. */
static int note_alien(inspection *in, int which, const listener *l) {
    const mo_model_files *f = &in->files;
    const mo_checkpoint *ck = checkpoint_of(in, which);
    const mo_file *config = which == LM ? &f->config : f->codec_only ? &f->config : &f->mimi_config;
    size_t missing = l->faults[MO_FAULT_MISSING], unfit = l->faults[MO_FAULT_UNFIT];
    size_t wanted = missing;
    char guess[MO_FOREIGN_BYTES] = "";
    for (size_t i = 0; ck && i < ck->n_tensors; i++)
        wanted += in->notes[first_of(in, which) + i].use == MO_USED;
    if (2 * (missing + unfit) <= wanted) return 0;
    if (2 * missing > wanted) mo_foreign_checkpoint(ck, guess);
    char *text =
        mo_format("%s: of the %zu tensors that %s asks for, %zu are missing and %zu are of "
                  "another shape or type: the two do not belong together%s%s",
                  l->file, wanted, config->name ? config->name : "the published codec", missing,
                  unfit, *guess ? "; " : "", guess);
    if (!text) return no_memory(in);
    int rc = add_finding(in, true, "mismatch", l->file, NULL, text);
    free(text);
    return rc;
}

/* Everything that an engine would load, onto a device that only counts. */
static int audit(inspection *in, uint64_t *parameters) {
    listener listeners[2];
    mo_audit audits[2];
    mo_backend *be;
    moshi_error mismatch;
    for (int w = 0; w < 2; w++) {
        const mo_checkpoint *ck = checkpoint_of(in, w);
        listeners[w] = (listener){.in = in, .file = ck ? ck->file.name : ""};
        audits[w] = (mo_audit){
            .notes = in->notes + first_of(in, w), .fault = on_fault, .user = &listeners[w]};
    }
    int rc = mo_dry_open(&be, &mo_backend_cpu, &(mo_backend_options){.threads = 1}, in->err);
    if (rc < 0) return rc;
    rc = mo_model_audit(&in->files, be, &audits[LM], &audits[MIMI], parameters, &mismatch, in->err);
    be->ops->close(be);
    for (int w = 0; rc == 0 && w < 2; w++) rc = note_alien(in, w, &listeners[w]);
    if (rc == 0 && mismatch.text[0])
        rc = add_finding(in, true, "mismatch", NULL, NULL, mismatch.text);
    if (rc == 0) rc = note_frame_rate(in);
    if (rc == 0) rc = note_sampling(in);
    return rc == 0 ? note_incomplete(in) : rc;
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* A tensor's problem is the end of its finding's text. */
static int judge_tensor(inspection *in, size_t i) {
    const mo_measured *m = &in->measured[i];
    char why[TEXT_BYTES];
    mo_verdict v = mo_health_judge(m, why, sizeof why);
    if (v == MO_SOUND) return 0;
    char *text = mo_format("%s: tensor '%s' %s", m->ck->file.name, m->t->name, why);
    if (!text) return no_memory(in);
    bool fatal = v == MO_DAMAGED && in->notes[i].use == MO_USED;
    int rc = add_finding(in, fatal, v == MO_DAMAGED ? "damaged" : "odd", m->ck->file.name,
                         m->t->name, text);
    free(text);
    if (rc < 0) return rc;
    const char *kept = in->findings[in->n_findings - 1].text;
    in->tensors[i].problem = kept + strlen(kept) - strlen(why);
    return 0;
}

/* Codebooks have their own copies of weights that they share; an audit does not compare them. */
static int compare_copies(inspection *in) {
    const mo_checkpoint *ck = &in->files.lm_file;
    if (!in->files.has_lm) return 0;
    mo_names names = mo_names_detect(ck, &in->files.lm);
    for (size_t i = 0; i < ck->n_tensors; i++) {
        char name[MO_TENSOR_NAME_BYTES];
        const mo_tensor_view *copy = &ck->tensors[i], *t;
        if (!mo_names_copy_of(&names, copy->name, name) || !(t = mo_checkpoint_find(ck, name)))
            continue;
        if (t->bytes == copy->bytes && !memcmp(t->data, copy->data, (size_t)t->bytes)) continue;
        char *text = mo_format("%s: tensor '%s' differs from '%s', whose weights it shares",
                               ck->file.name, copy->name, name);
        int rc =
            text ? add_finding(in, true, "unfit", ck->file.name, copy->name, text) : no_memory(in);
        free(text);
        if (rc < 0) return rc;
    }
    return 0;
}

/* A part whose matrices are zeros, all or half of them, has one cause and is told in one sentence.
 */
static int judge_part(inspection *in, mo_part part) {
    size_t matrices = 0, zero = 0, holes = 0, needed = 0;
    const char *file = NULL;
    char text[TEXT_BYTES];
    for (size_t i = 0; i < in->info.n_tensors; i++) {
        const mo_measured *m = &in->measured[i];
        bool codec = i >= first_of(in, MIMI);
        if (!m->numbers || m->count == 0 || !mo_health_is_matrix(m)) continue;
        if (mo_part_of(m->t->name, codec) != part) continue;
        matrices++;
        if (m->zeros < m->count) continue;
        zero++;
        holes += m->hole;
        needed += in->notes[i].use == MO_USED;
        file = m->ck->file.name;
    }
    if (zero == 0 || 2 * zero < matrices || matrices < 2) return 0;
    const char *effect = mo_part_if_zero(part);
    const char *cause = holes == zero ? "it was never written (an unfinished download or copy?)"
                                      : "the file was damaged or converted wrongly";
    if (zero == matrices)
        snprintf(text, sizeof text, "all %zu", matrices);
    else
        snprintf(text, sizeof text, "%zu of the %zu", zero, matrices);
    char *whole = mo_format("%s: %s matrices of %s are zeros%s%s; %s", file, text,
                            mo_part_name(part), *effect ? ": " : "", effect, cause);
    int rc = whole ? add_finding(in, needed > 0, "damaged", file, NULL, whole) : no_memory(in);
    free(whole);
    return rc;
}

static int judge_numbers(inspection *in, const moshi_inspect_options *o) {
    const mo_health_progress progress = {o->progress, o->progress_user};
    size_t n = in->info.n_tensors;
    for (size_t i = 0; i < n; i++) {
        in->measured[i].rows = in->notes[i].rows;
        in->measured[i].cols = in->notes[i].cols;
    }
    int rc = mo_health_measure(in->measured, n, o->threads, &progress, in->err);
    for (size_t i = 0; rc == 0 && i < n; i++) rc = judge_tensor(in, i);
    for (int p = 0; rc == 0 && p < MO_PART_COUNT; p++) rc = judge_part(in, (mo_part)p);
    return rc == 0 ? compare_copies(in) : rc;
}

/* ---- describing ----------------------------------------------------------------------------- */

static void list_tensors(inspection *in) {
    size_t n = 0;
    for (int w = 0; w < 2; w++) {
        const mo_checkpoint *ck = checkpoint_of(in, w);
        for (size_t i = 0; ck && i < ck->n_tensors; i++, n++) {
            const mo_tensor_view *t = &ck->tensors[i];
            in->measured[n] = (mo_measured){.ck = ck, .t = t};
            in->tensors[n] = (moshi_tensor_info){.file = ck->file.name,
                                                 .name = t->name,
                                                 .dtype = mo_dtype_name(t->dtype),
                                                 .ndim = t->ndim,
                                                 .bytes = t->bytes};
            memcpy(in->tensors[n].shape, t->shape, sizeof t->shape);
        }
    }
}

/* Numbers that a tensor stands for, when no loader has said. */
static uint64_t count_numbers(const mo_checkpoint *ck, const mo_tensor_view *t) {
    char name[MO_TENSOR_NAME_BYTES];
    size_t n = strlen(t->name), w = strlen(".weight");
    if (mo_dtype_is_float(t->dtype) || mo_dtype_block(t->dtype) > 1 || t->dtype == MO_I8)
        return t->count;
    if (t->dtype != MO_U32 || t->ndim != 2 || n < w || n + 2 > sizeof name) return 0;
    /* MLX: 8 bits come in groups of 64, 4 bits in groups of 32 or 64. */
    snprintf(name, sizeof name, "%.*s.scales", (int)(n - w), t->name);
    const mo_tensor_view *s = mo_checkpoint_find(ck, name);
    if (!s || s->ndim != 2 || s->shape[1] < 1) return 0;
    return t->count * (t->shape[1] / s->shape[1] >= 16 ? 4 : 8);
}

static void list_parts(inspection *in) {
    moshi_model_info *info = &in->info;
    bool audited[2] = {in->files.has_lm, in->files.has_mimi};
    moshi_part_info parts[ALL_PARTS] = {0};
    for (size_t i = 0; i < info->n_tensors; i++) {
        const mo_measured *m = &in->measured[i];
        bool codec = i >= first_of(in, MIMI) && checkpoint_of(in, MIMI);
        const mo_tensor_note *note = &in->notes[i];
        bool needed = !audited[codec] || note->use == MO_USED;
        moshi_part_info *p = &parts[needed ? (int)mo_part_of(m->t->name, codec) : NOT_NEEDED];
        p->tensors++;
        p->bytes += m->t->bytes;
        p->parameters += audited[codec] && needed ? note->parameters : count_numbers(m->ck, m->t);
    }
    for (int p = 0; p < ALL_PARTS; p++) {
        if (parts[p].tensors == 0) continue;
        parts[p].name = p == NOT_NEEDED ? "not needed" : mo_part_name((mo_part)p);
        in->parts[info->n_parts++] = parts[p];
    }
    info->parts = in->parts;
}

static void describe_shapes(inspection *in) {
    mo_lm_shapes s;
    moshi_model_info *i = &in->info;
    i->engine.model_type = in->files.lm.model_type[0] ? in->files.lm.model_type : "unknown kind of";
    if (!mo_lm_shapes_read(&s, &in->files.lm_file)) return;
    i->dim = s.dim;
    i->layers = s.layers;
    i->depformer_dim = s.dep_dim;
    i->depformer_layers = s.dep_layers;
    i->engine.n_q = s.n_q;
    i->engine.dep_q = s.dep_q;
    i->engine.user_codebooks = s.n_q > s.dep_q ? s.n_q - s.dep_q : 0;
    i->engine.card = s.card;
    i->engine.text_card = s.text_card;
}

/* In what form most of the main weights are. */
static void describe_format(inspection *in) {
    static const char *const schemes[] = {"PyTorch", "candle", "MLX"};
    const mo_checkpoint *ck = checkpoint_of(in, LM);
    moshi_model_info *i = &in->info;
    uint64_t bytes[MO_DTYPE_COUNT] = {0};
    int most = 0;
    i->names = ck ? schemes[mo_names_scheme(ck)] : "Mimi";
    if (!ck) ck = checkpoint_of(in, MIMI);
    bool gguf = ck->file.size >= 4 && !memcmp(ck->file.data, "GGUF", 4);
    i->container = gguf ? "GGUF" : "safetensors";
    for (size_t t = 0; t < ck->n_tensors; t++) {
        int d = (int)ck->tensors[t].dtype;
        bytes[d] += ck->tensors[t].bytes;
        if (bytes[d] > bytes[most]) most = d;
    }
    snprintf(in->numbers, sizeof in->numbers, "%s", mo_dtype_name((mo_dtype)most));
    for (size_t t = 0; most == MO_U32 && t < ck->n_tensors; t++)
        if (ck->tensors[t].dtype == MO_U32) {
            uint64_t count = in->notes[t].parameters;
            if (!count) count = count_numbers(ck, &ck->tensors[t]);
            if (!count) continue;
            snprintf(in->numbers, sizeof in->numbers, "%d-bit",
                     (int)(32 * ck->tensors[t].count / count));
            break;
        }
    i->numbers = in->numbers;
}

static const char *name_of(const mo_file *f) {
    return f->name;
}

static void describe(inspection *in) {
    moshi_model_info *i = &in->info;
    const mo_model_files *f = &in->files;
    if (f->has_lm) {
        mo_model_describe(f, &i->engine);
        i->dim = f->lm.dim;
        i->layers = f->lm.layers;
        i->heads = f->lm.heads;
        i->depformer_dim = f->lm.dep_dim;
        i->depformer_layers = f->lm.dep_layers;
        i->depformer_heads = f->lm.dep_heads;
    } else if (f->lm_file.tensors) {
        describe_shapes(in);
    }
    if (f->has_mimi) mo_codec_describe(&f->mimi, f->mimi.codebooks, &i->codec);
    i->kind = f->lm_file.tensors ? "moshi" : "mimi";
    i->preset = f->preset ? f->preset->name : NULL;
    i->config_file = f->preset ? NULL : name_of(&f->config);
    i->lm_file = f->lm_file.tensors ? name_of(&f->lm_file.file) : NULL;
    i->codec_file = f->has_mimi ? name_of(&f->mimi_file.file) : NULL;
    i->text_file = f->has_text ? name_of(&f->tokenizer) : NULL;
    describe_format(in);
}

static char *summarise(const inspection *in) {
    const moshi_model_info *i = &in->info;
    double millions = (double)i->engine.parameters / 1e6;
    if (!i->lm_file)
        return mo_format("Mimi codec, %d codebooks of %d, %.1f M parameters", i->codec.codebooks,
                         i->codec.bins, millions);
    return mo_format("%s language model, %d layers of %d, reads %d and speaks %d audio channels, "
                     "%.1f M parameters%s",
                     i->engine.model_type, i->layers, i->dim, i->engine.n_q, i->engine.dep_q,
                     millions, in->files.has_mimi ? " with its codec" : "");
}

/* ---- entry ---------------------------------------------------------------------------------- */

static int alloc_tables(inspection *in) {
    const mo_checkpoint *lm = checkpoint_of(in, LM), *mimi = checkpoint_of(in, MIMI);
    size_t n = (lm ? lm->n_tensors : 0) + (mimi ? mimi->n_tensors : 0);
    in->tensors = mo_calloc(n + 1, sizeof *in->tensors);
    in->notes = mo_calloc(n + 1, sizeof *in->notes);
    in->measured = mo_calloc(n + 1, sizeof *in->measured);
    in->info.tensors = in->tensors;
    in->info.n_tensors = n;
    return in->tensors && in->notes && in->measured ? 0 : no_memory(in);
}

/* Of all parts, where no audit has counted. */
static uint64_t all_parameters(const inspection *in) {
    uint64_t n = 0;
    for (size_t i = 0; i < in->info.n_parts; i++) n += in->info.parts[i].parameters;
    return n;
}

static int conclude(inspection *in) {
    moshi_model_info *i = &in->info;
    int rc = sort_findings(in);
    if (rc < 0) return rc;
    i->findings = in->findings;
    i->n_findings = in->n_findings;
    i->runs = !(i->n_findings && i->findings[0].fatal);
    if (!i->runs) {
        i->reason = in->reason = mo_format("%s", i->findings[0].text);
        if (!in->reason) return no_memory(in);
    }
    i->summary = in->summary = summarise(in);
    return in->summary ? 0 : no_memory(in);
}

static int examine(inspection *in, const moshi_inspect_options *o) {
    uint64_t parameters = 0;
    int rc = alloc_tables(in);
    if (rc < 0) return rc;
    list_tensors(in);
    rc = audit(in, &parameters);
    if (rc == 0 && !(o->flags & MOSHI_INSPECT_QUICK)) rc = judge_numbers(in, o);
    if (rc < 0) return rc;
    describe(in);
    list_parts(in);
    if (!in->files.has_lm && in->files.lm_file.tensors) parameters = all_parameters(in);
    in->info.engine.parameters = in->info.codec.parameters = parameters;
    return conclude(in);
}

int moshi_inspect(moshi_model_info **out, const moshi_inspect_options *options, moshi_error *err) {
    moshi_error unseen;
    if (!err) err = &unseen;
    *err = (moshi_error){0};
    if (!out || !options || !options->model == !options->n_blobs)
        return mo_fail(err, MOSHI_EINVAL, "moshi_inspect: give out, and a path or blobs");
    *out = NULL;
    if (options->flags & ~MOSHI_INSPECT_QUICK)
        return mo_fail(err, MOSHI_EINVAL, "moshi_inspect: unknown flags 0x%x",
                       (unsigned)(options->flags & ~MOSHI_INSPECT_QUICK));
    if (options->threads < 0)
        return mo_fail(err, MOSHI_EINVAL, "moshi_inspect: threads: wanted 0 or more, found %d",
                       options->threads);
    inspection *in = mo_calloc(1, sizeof *in);
    if (!in) return mo_fail(err, MOSHI_ENOMEM, "out of memory");
    in->err = err;
    const mo_model_place place = {options->model, options->blobs, options->n_blobs,
                                  options->finder};
    const int want = MO_WANT_LM | MO_WANT_MIMI | MO_WANT_TEXT | MO_TOLERANT;
    int rc = mo_model_files_open(&in->files, &place, want, err);
    if (rc == 0) rc = examine(in, options);
    if (rc < 0) {
        moshi_model_info_free(&in->info);
        return rc;
    }
    in->err = NULL;
    *out = &in->info;
    return 0;
}

void moshi_model_info_free(moshi_model_info *info) {
    if (!info) return;
    inspection *in = (inspection *)info;
    for (size_t i = 0; i < in->n_findings; i++) {
        free((char *)in->findings[i].text);
        free((char *)in->findings[i].tensor);
    }
    mo_model_files_close(&in->files);
    free(in->findings);
    free(in->summary);
    free(in->reason);
    free(in->tensors);
    free(in->notes);
    free(in->measured);
    free(in);
}
