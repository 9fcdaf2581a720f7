/* test_config.c - configurations: what is read, what is derived, what is refused and in which
 * words. */
#include "alloc_fail.h"
#include "check.h"
#include "config.h"
#include "tensors.h"

#include <stdlib.h>
#include <string.h>

/* One key and its value as JSON text. */
typedef struct pair {
    const char *key, *value;
} pair;

static const pair lm_pairs[] = {
    {"dim", "128"},
    {"text_card", "500"},
    {"existing_text_padding_id", "3"},
    {"n_q", "4"},
    {"dep_q", "2"},
    {"card", "64"},
    {"num_heads", "4"},
    {"num_layers", "3"},
    {"hidden_scale", "4.125"},
    {"causal", "true"},
    {"layer_scale", "null"},
    {"context", "24"},
    {"max_period", "10000"},
    {"gating", "\"silu\""},
    {"norm", "\"rms_norm_f32\""},
    {"positional_embedding", "\"rope\""},
    {"depformer_dim", "64"},
    {"depformer_dim_feedforward", "288"},
    {"depformer_num_heads", "4"},
    {"depformer_num_layers", "2"},
    {"depformer_multi_linear", "true"},
    {"depformer_pos_emb", "\"none\""},
    {"depformer_weights_per_step", "true"},
    {"delays", "[0, 0, 1, 0, 2]"},
};

static const pair seanet_pairs[] = {
    {"channels", "1"},     {"dimension", "64"},           {"causal", "true"},
    {"n_filters", "8"},    {"n_residual_layers", "1"},    {"activation", "\"ELU\""},
    {"compress", "2"},     {"dilation_base", "2"},        {"disable_norm_outer_blocks", "0"},
    {"kernel_size", "7"},  {"residual_kernel_size", "3"}, {"last_kernel_size", "3"},
    {"norm", "\"none\""},  {"pad_mode", "\"constant\""},  {"ratios", "[8, 6, 5, 4]"},
    {"true_skip", "true"},
};
static const pair quantizer_pairs[] = {
    {"dimension", "32"},        {"n_q", "8"}, {"bins", "128"}, {"input_dimension", "64"},
    {"output_dimension", "64"},
};
static const pair transformer_pairs[] = {
    {"d_model", "64"},
    {"num_heads", "4"},
    {"num_layers", "2"},
    {"causal", "true"},
    {"layer_scale", "0.01"},
    {"context", "20"},
    {"conv_layout", "true"},
    {"max_period", "10000"},
    {"gating", "\"none\""},
    {"norm", "\"layer_norm\""},
    {"positional_embedding", "\"rope\""},
    {"dim_feedforward", "128"},
    {"input_dimension", "64"},
    {"output_dimensions", "[64]"},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* An object of `pairs`, where `key` has `value` instead (NULL: is left out; added if unknown). */
static void write_object(char *out, size_t cap, const pair *pairs, size_t n, const char *key,
                         const char *value) {
    size_t at = (size_t)snprintf(out, cap, "{");
    bool done = false;
    for (size_t i = 0; i < n; i++) {
        const char *v = pairs[i].value;
        if (key && strcmp(pairs[i].key, key) == 0) {
            done = true;
            v = value;
        }
        if (v)
            at += (size_t)snprintf(out + at, cap - at, "%s\"%s\":%s", at > 1 ? "," : "",
                                   pairs[i].key, v);
    }
    if (key && value && !done) at += (size_t)snprintf(out + at, cap - at, ",\"%s\":%s", key, value);
    snprintf(out + at, cap - at, "}");
}

static int parse_lm(mo_lm_config *c, const char *key, const char *value, moshi_error *err) {
    char text[4096];
    write_object(text, sizeof text, lm_pairs, COUNT(lm_pairs), key, value);
    err->text[0] = 0;
    return mo_lm_config_parse(c, text, strlen(text), "config.json", err);
}

/* `key` may be "seanet.x", "quantizer.x", "transformer.x" or a key of the outermost object. */
static int parse_mimi(mo_mimi_config *c, const char *key, const char *value, moshi_error *err) {
    char part[3][2048], text[8192];
    static const char *const names[] = {"seanet", "quantizer", "transformer"};
    static const pair *const pairs[] = {seanet_pairs, quantizer_pairs, transformer_pairs};
    static const size_t counts[] = {COUNT(seanet_pairs), COUNT(quantizer_pairs),
                                    COUNT(transformer_pairs)};
    pair top[6] = {{"sample_rate", "24000"}, {"channels", "1"}, {"frame_rate", "12.5"}};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);
        bool mine = key && strncmp(key, names[i], n) == 0 && key[n] == '.';
        write_object(part[i], sizeof part[i], pairs[i], counts[i], mine ? key + n + 1 : NULL,
                     value);
        top[3 + i] = (pair){names[i], part[i]};
    }
    write_object(text, sizeof text, top, 6, key && !strchr(key, '.') ? key : NULL, value);
    err->text[0] = 0;
    return mo_mimi_config_parse(c, text, strlen(text), "mimi.json", err);
}

/* ---- language model ------------------------------------------------------------------------ */

static void test_lm_values(void) {
    mo_lm_config c;
    moshi_error err;
    if (!CHECK(parse_lm(&c, NULL, NULL, &err) == 0, "%s", err.text)) return;
    CHECK(strcmp(c.model_type, "moshi") == 0, "model_type: %s", c.model_type);
    CHECK(c.dim == 128 && c.layers == 3 && c.heads == 4 && c.kv_repeat == 1, "sizes");
    CHECK(c.hidden == 352, "2 * int(4.125 * 128) / 3: %d", c.hidden);
    CHECK(c.context == 24 && c.max_period == 10000.0f && c.rope == MO_ROPE_PAIRS, "positions");
    CHECK(c.norm_eps == 1e-8f, "norm_eps: %g", (double)c.norm_eps);
    CHECK(c.n_q == 4 && c.dep_q == 2 && c.card == 64 && c.text_card == 500, "channels");
    CHECK(c.text_card_out == 500 && c.text_pad == 3, "text");
    CHECK(c.delays[2] == 1 && c.delays[4] == 2 && c.max_delay == 2, "delays");
    CHECK(c.dep_dim == 64 && c.dep_layers == 2 && c.dep_heads == 4 && c.dep_hidden == 192,
          "depformer");
    CHECK(c.dep_sets == 2 && c.dep_schedule[0] == 0 && c.dep_schedule[1] == 1, "schedule");
    CHECK(c.dep_low_rank == 0 && !c.dep_norm && c.extra_heads == 0, "options off");
    CHECK(c.text_temp == 0.7f && c.text_top_k == 25 && c.audio_temp == 0.8f && c.audio_top_k == 250,
          "the reference's sampling");
    CHECK(!c.moshi_name[0] && !c.mimi_name[0] && !c.tokenizer_name[0], "no names");
}

/* Width of the gated feed-forward: the rule has a special case at exactly 4 * dim. */
static void test_hidden(void) {
    static const struct {
        const char *scale;
        int hidden;
    } cases[] = {{"4", 336}, {"4.0", 336}, {"null", 336}, {"4.125", 352},
                 {"6", 512}, {"3", 256},   {"4.01", 342}};
    mo_lm_config c;
    moshi_error err;
    for (size_t i = 0; i < COUNT(cases); i++)
        CHECK(parse_lm(&c, "hidden_scale", cases[i].scale, &err) == 0 &&
                  c.hidden == cases[i].hidden,
              "hidden_scale %s: %d %s", cases[i].scale, c.hidden, err.text);
    CHECK(parse_lm(&c, "hidden_scale", NULL, &err) == 0 && c.hidden == 336, "absent is 4: %d",
          c.hidden);
    CHECK(parse_lm(&c, "depformer_dim_feedforward", "null", &err) == 0 && c.dep_hidden == 176,
          "null follows hidden_scale: %d", c.dep_hidden);
    CHECK(parse_lm(&c, "depformer_dim_feedforward", NULL, &err) == 0 && c.dep_hidden == 176,
          "absent follows hidden_scale: %d", c.dep_hidden);
    CHECK(parse_lm(&c, "depformer_dim_feedforward", "256", &err) == 0 && c.dep_hidden == 168,
          "exactly four times: %d", c.dep_hidden);
}

static void test_lm_options(void) {
    mo_lm_config c;
    moshi_error err;
    CHECK(parse_lm(&c, "positional_embedding", "\"rope_concat\"", &err) == 0 &&
              c.rope == MO_ROPE_HALVES,
          "rope_concat");
    CHECK(parse_lm(&c, "norm", "\"rms_norm\"", &err) == 0 && c.norm_eps == 1e-5f, "rms_norm");
    CHECK(parse_lm(&c, "max_period", "2e4", &err) == 0 && c.max_period == 20000.0f, "max_period");
    CHECK(parse_lm(&c, "max_period", NULL, &err) == 0 && c.max_period == 10000.0f,
          "max_period absent");
    CHECK(parse_lm(&c, "text_card_out", "400", &err) == 0 && c.text_card_out == 400,
          "text_card_out");
    CHECK(parse_lm(&c, "text_card_out", "null", &err) == 0 && c.text_card_out == 500,
          "text_card_out");
    CHECK(parse_lm(&c, "depformer_low_rank_embeddings", "16", &err) == 0 && c.dep_low_rank == 16,
          "low rank");
    CHECK(parse_lm(&c, "depformer_norm", "\"layer_norm\"", &err) == 0 && c.dep_norm,
          "depformer_norm");
    CHECK(parse_lm(&c, "extra_heads_num_heads", "4", &err) == 0 && c.extra_heads == 4 &&
              c.extra_heads_dim == 6,
          "heads");
    CHECK(parse_lm(&c, "depformer_weights_per_step_schedule", "[0,0]", &err) == 0 &&
              c.dep_sets == 1 && c.dep_schedule[1] == 0,
          "schedule");
    CHECK(parse_lm(&c, "depformer_weights_per_step_schedule", "[3,1]", &err) == 0 &&
              c.dep_sets == 4 && c.dep_schedule[0] == 3,
          "schedule");
    CHECK(parse_lm(&c, "model_type", "\"stt\"", &err) == 0 && strcmp(c.model_type, "stt") == 0,
          "model_type");
    CHECK(parse_lm(&c, "mimi_name", "\"../m/x.safetensors\"", &err) == 0 &&
              strcmp(c.mimi_name, "../m/x.safetensors") == 0,
          "name");
    CHECK(parse_lm(&c, "lm_gen_config",
                   "{\"temp\":0.5,\"top_k\":10,\"temp_text\":0,\"top_k_text\":5}", &err) == 0 &&
              c.audio_temp == 0.5f && c.audio_top_k == 10 && c.text_temp == 0 && c.text_top_k == 5,
          "lm_gen_config: %s", err.text);
    CHECK(parse_lm(&c, "lm_gen_config", "{\"use_sampling\":false,\"cfg_coef\":1.0}", &err) == 0 &&
              c.audio_temp == 0 && c.text_temp == 0,
          "no sampling: %s", err.text);
    CHECK(parse_lm(&c, "lm_gen_config", "{\"temp\":0.6,\"text_temp\":0.4}", &err) == 0 &&
              c.text_temp == 0.4f,
          "text_temp: %s", err.text);
    CHECK(parse_lm(&c, "kv_repeat", "2", &err) == MOSHI_EMODEL &&
              strstr(err.text, "depformer_kv_repeat"),
          "the depth transformer would inherit kv_repeat: %s", err.text);

    static const pair harmless[] = {{"conditioners", "{}"},
                                    {"fuser", "{}"},
                                    {"fuser", "{\"sum\":[],\"cross_attention_pos_emb\":true}"},
                                    {"cross_attention", "false"},
                                    {"demux_second_stream", "false"},
                                    {"lora", "false"},
                                    {"model_id", "{\"sig\":\"x\",\"epoch\":1}"},
                                    {"tts_config", "{\"audio_delay\":1.28}"},
                                    {"stt_config", "{\"audio_delay_seconds\":0.5}"},
                                    {"some_name", "\"x\""},
                                    {"moshi_version", "\"0.2\""},
                                    {"depformer_context", "8"},
                                    {"depformer_max_period", "5"},
                                    {"depformer_causal", "true"},
                                    {"depformer_gating", "\"silu\""},
                                    {"depformer_kv_repeat", "1"},
                                    {"anything", "null"},
                                    {"anything", "false"},
                                    {"quantize", "false"},
                                    {"bias_proj", "false"}};
    for (size_t i = 0; i < COUNT(harmless); i++)
        CHECK(parse_lm(&c, harmless[i].key, harmless[i].value, &err) == 0, "%s: %s",
              harmless[i].value, err.text);
}

/* Without a depth transformer its keys are optional and mean nothing. */
static void test_no_depformer(void) {
    static const char text[] = "{\"dim\":64,\"text_card\":40,\"existing_text_padding_id\":3,\"n_"
                               "q\":3,\"dep_q\":0,\"card\":9,"
                               "\"num_heads\":2,\"num_layers\":1,\"context\":5,\"gating\":\"silu\","
                               "\"norm\":\"rms_norm_f32\","
                               "\"positional_embedding\":\"rope\",\"delays\":[0,0,0,0],\"kv_"
                               "repeat\":2,\"depformer_dim\":\"none\"}";
    mo_lm_config c;
    moshi_error err = {0};
    CHECK(mo_lm_config_parse(&c, text, strlen(text), "c", &err) == 0 && c.dep_q == 0 &&
              c.dep_sets == 0 && c.kv_repeat == 2,
          "%s", err.text);
}

typedef struct refusal {
    const char *key, *value, *wanted, *found;
} refusal;

/* Every message names the file, the key, what was wanted and what was found. */
static void check_refusal(int rc, const refusal *r, const char *file, const moshi_error *err) {
    const char *last = strrchr(r->key, '.');
    CHECK(rc == MOSHI_EMODEL && err->code == rc, "%s = %s is refused: %d", r->key,
          r->value ? r->value : "(absent)", rc);
    CHECK(strncmp(err->text, file, strlen(file)) == 0 &&
              strstr(err->text, last ? last + 1 : r->key) && strstr(err->text, r->wanted) &&
              strstr(err->text, r->found),
          "%s = %s: wanted \"%s\", \"%s\" in: %s", r->key, r->value ? r->value : "(absent)",
          r->wanted, r->found, err->text);
}

static void test_lm_refusals(void) {
    static const refusal cases[] = {
        {"dim", NULL, "wanted a whole number from 1 to", "found nothing"},
        {"dim", "null", "a whole number", "found null"},
        {"dim", "128.0", "a whole number", "found 128"},
        {"dim", "\"128\"", "a whole number", "found \"128\""},
        {"dim", "0", "from 1 to", "found 0"},
        {"dim", "-1", "from 1 to", "found -1"},
        {"dim", "1000000000", "to 16384", "found 1000000000"},
        {"dim", "99999999999999999999", "a whole number", "found 1e+20"},
        {"dim", "true", "a whole number", "found true"},
        {"num_heads", "3", "a divisor of the width 128", "found 3"},
        {"num_heads", "128", "even width", "found 128"},
        {"num_layers", NULL, "a whole number", "found nothing"},
        {"context", NULL, "a whole number", "found nothing"},
        {"context", "0", "from 1", "found 0"},
        {"hidden_scale", "0", "a number from", "found 0"},
        {"hidden_scale", "\"4\"", "a number from", "found \"4\""},
        {"max_period", "0", "a number from 1", "found 0"},
        {"n_q", "129", "from 1 to 128", "found 129"},
        {"dep_q", "5", "from 0 to 4", "found 5"},
        {"dep_q", "-1", "from 0 to 4", "found -1"},
        {"card", "0", "from 1", "found 0"},
        {"text_card_out", "502", "from 1 to 501", "found 502"},
        {"existing_text_padding_id", NULL, "a whole number", "found nothing"},
        {"existing_text_padding_id", "501", "from 0 to 500", "found 501"},
        {"existing_text_end_padding_id", "1", "wanted 0", "found 1"},
        {"delays", NULL, "an array of 5", "found nothing"},
        {"delays", "[0,0,1,0]", "an array of 5", "found an array of 4"},
        {"delays", "[0,0,1,0,-1]", "[4]", "found -1"},
        {"delays", "[0,0,1,0,1001]", "from 0 to 1000", "found 1001"},
        {"delays", "[0,0,1.0,0,1]", "[2]", "found 1"},
        {"delays", "7", "an array of 5", "found 7"},
        {"gating", "\"gelu\"", "wanted \"silu\"", "found \"gelu\""},
        {"gating", NULL, "wanted \"silu\"", "found nothing"},
        {"norm", "\"layer_norm\"", "\"rms_norm_f32\" or \"rms_norm\"", "found \"layer_norm\""},
        {"norm", NULL, "\"rms_norm_f32\"", "found nothing"},
        {"positional_embedding", "\"sin\"", "\"rope\" or \"rope_concat\"", "found \"sin\""},
        {"causal", "false", "wanted true", "found false"},
        {"layer_scale", "0.01", "not implemented", "found 0.01"},
        {"conditioners", "{\"a\":1}", "not implemented", "an object of 1"},
        {"fuser", "{\"sum\":[\"a\"]}", "not implemented", "an object of 1"},
        {"cross_attention", "true", "wanted false", "found true"},
        {"demux_second_stream", "true", "wanted false", "found true"},
        {"lora", "true", "wanted false", "found true"},
        {"lora_name", "\"x\"", "not implemented", "found \"x\""},
        {"quantize", "true", "wanted false", "found true"},
        {"bias_proj", "true", "wanted false", "found true"},
        {"bias_ff", "true", "wanted false", "found true"},
        {"bias_attn", "true", "wanted false", "found true"},
        {"norm_emb", "true", "wanted false", "found true"},
        {"brand_new_key", "1", "no such key", "found 1"},
        {"brand_new_key", "[0]", "no such key", "an array of 1"},
        {"kv_repeat", "3", "a divisor of num_heads", "found 3"},
        {"depformer_dim", NULL, "a whole number", "found nothing"},
        {"depformer_num_heads", "5", "a divisor of the width 64", "found 5"},
        {"depformer_num_layers", NULL, "a whole number", "found nothing"},
        {"depformer_multi_linear", NULL, "wanted true", "found nothing"},
        {"depformer_multi_linear", "false", "wanted true", "found false"},
        {"depformer_weights_per_step", "false", "wanted true", "found false"},
        {"depformer_pos_emb", "\"sin\"", "wanted \"none\"", "found \"sin\""},
        {"depformer_gating", "\"none\"", "wanted \"silu\"", "found \"none\""},
        {"depformer_norm", "\"rms_norm\"", "wanted \"layer_norm\"", "found \"rms_norm\""},
        {"depformer_layer_scale", "1", "not implemented", "found 1"},
        {"depformer_kv_repeat", "2", "wanted 1", "found 2"},
        {"depformer_low_rank_embeddings", "0", "from 1", "found 0"},
        {"depformer_weights_per_step_schedule", "[0]", "an array of 2", "an array of 1"},
        {"depformer_weights_per_step_schedule", "[0,64]", "from 0 to 63", "found 64"},
        {"model_type", "5", "text of at most 63 bytes", "found 5"},
        {"model_type", "\"0123456789012345678901234567890123456789012345678901234567890123\"",
         "at most 63", "found \"0123"},
        {"lm_gen_config", "5", "an object", "found 5"},
        {"lm_gen_config", "{\"temp\":-1}", "lm_gen_config.temp", "found -1"},
        {"lm_gen_config", "{\"top_k\":1.5}", "a whole number", "found 1.5"},
        {"lm_gen_config", "{\"use_sampling\":1}", "true or false", "found 1"},
        {"lm_gen_config", "{\"cfg_coef\":3.0}", "guidance is not implemented", "found 3"},
        {"lm_gen_config", "{\"penalty\":1}", "no such key", "lm_gen_config.penalty"},
        {"extra_heads_num_heads", "-1", "from 0 to 64", "found -1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        mo_lm_config c;
        moshi_error err = {0};
        check_refusal(parse_lm(&c, cases[i].key, cases[i].value, &err), &cases[i],
                      "config.json: key ", &err);
    }
}

/* Texts that are no configuration at all. */
static void test_bad_texts(void) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {{"", "empty"},
                 {"[]", "wanted a JSON object"},
                 {"{\"dim\":128,", "not valid JSON at line 1, column 12"},
                 {"{\"dim\":1,\"dim\":2}", "dim"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        mo_lm_config lm;
        mo_mimi_config mimi;
        moshi_error err = {0};
        CHECK(mo_lm_config_parse(&lm, cases[i].text, strlen(cases[i].text), "F", &err) ==
                      MOSHI_EMODEL &&
                  strncmp(err.text, "F: ", 3) == 0,
              "%s", err.text);
        if (i < 3)
            CHECK(strstr(err.text, cases[i].wanted) != NULL, "wanted %s in: %s", cases[i].wanted,
                  err.text);
        CHECK(mo_mimi_config_parse(&mimi, cases[i].text, strlen(cases[i].text), "F", &err) ==
                  MOSHI_EMODEL,
              "%s", err.text);
    }
    char text[4200];
    moshi_error err = {0};
    mo_lm_config c;
    write_object(text, sizeof text, lm_pairs, COUNT(lm_pairs), NULL, NULL);
    strcpy(text + strlen(text) - 1, ",\"dim\":128}");
    CHECK(mo_lm_config_parse(&c, text, strlen(text), "F", &err) == MOSHI_EMODEL &&
              strstr(err.text, "key \"dim\": wanted this key only once"),
          "a key twice: %s", err.text);
    char *big = calloc(1, (1 << 20) + 2);
    memset(big, ' ', (1 << 20) + 1);
    CHECK(mo_lm_config_parse(&c, big, (1 << 20) + 1, "F", &err) == MOSHI_EMODEL &&
              strstr(err.text, "at most 1048576 bytes"),
          "%s", err.text);
    size_t n = 1;
    big[0] = '{';
    for (int i = 0; i < 1001; i++) n += (size_t)sprintf(big + n, "%s\"k%d\":null", i ? "," : "", i);
    strcpy(big + n, "}");
    CHECK(mo_lm_config_parse(&c, big, n + 1, "F", &err) == MOSHI_EMODEL &&
              strstr(err.text, "at most 1000 keys, found an object of 1001"),
          "%s", err.text);
    free(big);
}

/* ---- codec --------------------------------------------------------------------------------- */

static void test_mimi_values(void) {
    mo_mimi_config c;
    moshi_error err;
    if (!CHECK(parse_mimi(&c, NULL, NULL, &err) == 0, "%s", err.text)) return;
    CHECK(c.sample_rate_hz == 24000 && c.frame_rate_hz == 12.5 && c.filters == 8 &&
              c.dimension == 64,
          "sizes");
    CHECK(c.residual_layers == 1 && c.compress == 2 && c.dilation_base == 2, "residual");
    CHECK(c.kernel == 7 && c.residual_kernel == 3 && c.last_kernel == 3, "kernels");
    CHECK(c.n_ratios == 4 && c.ratios[0] == 8 && c.ratios[3] == 4, "ratios");
    CHECK(c.layers == 2 && c.heads == 4 && c.feed_forward == 128 && c.context == 20 &&
              c.max_period == 10000,
          "transformer");
    CHECK(c.codebooks == 8 && c.semantic_codebooks == 1 && c.bins == 128 && c.codebook_dim == 32,
          "quantizer");
    CHECK(c.hop == 960 && c.stride == 2 && c.frame_samples == 1920, "frames");
    CHECK(parse_mimi(&c, "frame_rate", "25", &err) == 0 && c.stride == 1 && c.frame_samples == 960,
          "stride 1: %s", err.text);
    CHECK(parse_mimi(&c, "seanet.ratios", "[3]", &err) == MOSHI_EMODEL, "8000 / 12.5 is no frame");
    CHECK(parse_mimi(&c, "seanet.ratios", "[5,3,2]", &err) == 0 && c.hop == 30 && c.stride == 64,
          "other ratios: %s", err.text);
    CHECK(parse_mimi(&c, "seanet.norm_params", "{}", &err) == 0, "empty norm_params: %s", err.text);

    mo_mimi_config official;
    mo_mimi_config_official(&official);
    CHECK(official.hop == 960 && official.frame_samples == 1920 && official.codebooks == 32 &&
              official.bins == 2048,
          "official");
}

static void test_mimi_refusals(void) {
    static const refusal cases[] = {
        {"sample_rate", NULL, "a whole number", "found nothing"},
        {"sample_rate", "24000.5", "a whole number", "found 24000.5"},
        {"frame_rate", NULL, "a number", "found nothing"},
        {"frame_rate", "12", "sample_rate / product of ratios", "found 12"},
        {"frame_rate", "0", "a number", "found 0"},
        {"frame_rate", "0.1", "a whole number from 1 to 64", "found 0.1"},
        {"channels", "2", "wanted 1", "found 2"},
        {"seanet", NULL, "an object", "found nothing"},
        {"quantizer", "[]", "an object", "found an array of 0"},
        {"transformer", "null", "an object", "found null"},
        {"unknown", "1", "no such key", "found 1"},
        {"seanet.unknown", "1", "seanet.unknown", "found 1"},
        {"seanet.dimension", NULL, "a whole number", "found nothing"},
        {"seanet.n_filters", "0", "from 1", "found 0"},
        {"seanet.n_filters", "16000", "at most 65536 channels", "found 16000"},
        {"seanet.ratios", "[]", "an array of 1 to 8", "found an array of 0"},
        {"seanet.ratios", "[1,1,1,1,1,1,1,1,1]", "an array of 1 to 8", "found an array of 9"},
        {"seanet.ratios", "[8,0]", "ratios[1]", "found 0"},
        {"seanet.ratios", "[1024,1024,1024]", "a product of at most", "ratios"},
        {"seanet.compress", "9", "at most n_filters = 8", "found 9"},
        {"seanet.n_residual_layers", "0", "from 1 to 16", "found 0"},
        {"seanet.n_residual_layers", NULL, "from 1 to 16", "found nothing"},
        {"seanet.kernel_size", "0", "from 1", "found 0"},
        {"seanet.causal", "false", "wanted true", "found false"},
        {"seanet.true_skip", "false", "wanted true", "found false"},
        {"seanet.activation", "\"ReLU\"", "wanted \"ELU\"", "found \"ReLU\""},
        {"seanet.norm", "\"weight_norm\"", "wanted \"none\"", "found \"weight_norm\""},
        {"seanet.pad_mode", "\"reflect\"", "wanted \"constant\"", "found \"reflect\""},
        {"seanet.channels", "2", "wanted 1", "found 2"},
        {"quantizer.n_q", "1", "from 2 to 64", "found 1"},
        {"quantizer.n_q", "65", "from 2 to 64", "found 65"},
        {"quantizer.n_q_semantic", "8", "from 1 to 7", "found 8"},
        {"quantizer.bins", NULL, "a whole number", "found nothing"},
        {"quantizer.input_dimension", "32", "wanted 64", "found 32"},
        {"transformer.d_model", "32", "wanted 64", "found 32"},
        {"transformer.num_heads", "7", "a divisor of the width 64", "found 7"},
        {"transformer.num_heads", "64", "even width", "found 64"},
        {"transformer.output_dimensions", "[32]", "output_dimensions[0]", "found 32"},
        {"transformer.output_dimensions", "[64,64]", "an array of 1", "found an array of 2"},
        {"transformer.gating", "\"silu\"", "wanted \"none\"", "found \"silu\""},
        {"transformer.norm", "\"rms_norm\"", "wanted \"layer_norm\"", "found \"rms_norm\""},
        {"transformer.positional_embedding", "\"sin\"", "wanted \"rope\"", "found \"sin\""},
        {"transformer.causal", "false", "wanted true", "found false"},
        {"transformer.conv_layout", "false", "wanted true", "found false"},
        {"transformer.layer_scale", "null", "a number", "found null"},
        {"transformer.context", NULL, "a whole number", "found nothing"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        mo_mimi_config c;
        moshi_error err = {0};
        check_refusal(parse_mimi(&c, cases[i].key, cases[i].value, &err), &cases[i],
                      "mimi.json: key ", &err);
    }
}

static mo_config_kind kind_of(const char *text) {
    mo_config_kind kind = MO_CONFIG_SILENT;
    CHECK(mo_config_kind_of(&kind, text, strlen(text)) == 0, "%s", text);
    return kind;
}

static void test_kinds(void) {
    CHECK(kind_of("{\"seanet\":{}}") == MO_CONFIG_MIMI, "a codec");
    CHECK(kind_of("{\"dim\":1}") == MO_CONFIG_LM, "a language model");
    CHECK(kind_of("{\"a\":{\"seanet\":1}, \"n_q\": 3}") == MO_CONFIG_LM,
          "only the outermost keys count");
    CHECK(kind_of("{}") == MO_CONFIG_SILENT &&
              kind_of("{\"model_type\": \"personaplex\", \"version\": \"7b-v1\"}") ==
                  MO_CONFIG_SILENT,
          "no sizes");
    CHECK(kind_of("[\"seanet\"]") == MO_CONFIG_LM && kind_of("") == MO_CONFIG_LM &&
              kind_of("{") == MO_CONFIG_LM,
          "what only the parser can refuse");
    mo_lm_config c;
    moshi_error err = {0};
    static const char text[] =
        "{\"moshi_name\":\"a\",\"mimi_name\":\"b\",\"conditioners\":{\"x\":1}}";
    CHECK(mo_lm_config_names(&c, text, strlen(text), "F", &err) == 0 &&
              strcmp(c.moshi_name, "a") == 0 && strcmp(c.mimi_name, "b") == 0,
          "names of a model that cannot run: %s", err.text);
}

static void test_memory(void) {
    if (!alloc_fail_works()) {
        SKIP("allocations cannot be made to fail here");
        return;
    }
    for (int kind = 0; kind < 2; kind++) {
        int rc = MOSHI_ENOMEM;
        for (long n = 1; rc != 0 && n < 50; n++) {
            mo_lm_config lm;
            mo_mimi_config mimi;
            moshi_error err = {0};
            alloc_fail_at(n, false);
            rc = kind ? parse_mimi(&mimi, NULL, NULL, &err) : parse_lm(&lm, NULL, NULL, &err);
            alloc_fail_at(0, false);
            CHECK(rc == 0 || rc == MOSHI_ENOMEM, "allocation %ld fails: %d %s", n, rc, err.text);
        }
        CHECK(rc == 0, "parses once nothing fails");
    }
    alloc_fail_at(1, false);
    mo_config_kind kind;
    int rc = mo_config_kind_of(&kind, "{\"seanet\":{}}", 13);
    alloc_fail_at(0, false);
    CHECK(rc == MOSHI_ENOMEM, "no memory is no answer: %d", rc);
}

/* ---- recorded models ----------------------------------------------------------------------- */

static int parse_golden(const char *name, mo_lm_config *c, moshi_error *err) {
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", name);
    const char *full = golden_path(path);
    mo_file f;
    if (!full) return 1;
    int rc = mo_file_map(&f, full, path, err);
    if (rc < 0) return rc;
    rc = mo_lm_config_parse(c, (const char *)f.data, f.size, path, err);
    mo_file_close(&f);
    return rc;
}

static void test_golden(void) {
    static const struct {
        const char *name;
        int hidden, dep_hidden, sets, max_delay;
        float text_temp;
    } good[] = {
        {"moshi-tiny", 352, 192, 8, 1, 0.7f},        {"moshi-tiny-q", 704, 192, 8, 1, 0.7f},
        {"personaplex-tiny", 352, 192, 16, 1, 0.7f}, {"stt-tiny", 352, 0, 0, 0, 0.0f},
        {"hibiki-zero-tiny", 512, 256, 9, 2, 0.8f},  {"../demo-model", 512, 256, 8, 1, 0.2f}};
    static const char *const refused[] = {"tts-tiny", "tts-prefix-tiny", "hibiki-tiny"};
    mo_lm_config c;
    moshi_error err = {0};
    for (size_t i = 0; i < COUNT(good); i++) {
        int rc = parse_golden(good[i].name, &c, &err);
        if (rc == 1) {
            SKIP("no reference data: %s", good[i].name);
            continue;
        }
        CHECK(rc == 0 && c.hidden == good[i].hidden && c.dep_hidden == good[i].dep_hidden &&
                  c.dep_sets == good[i].sets && c.max_delay == good[i].max_delay &&
                  c.text_temp == good[i].text_temp,
              "%s: %d %s hidden %d dep_hidden %d sets %d", good[i].name, rc, err.text, c.hidden,
              c.dep_hidden, c.dep_sets);
    }
    for (size_t i = 0; i < COUNT(refused); i++) {
        int rc = parse_golden(refused[i], &c, &err);
        if (rc == 1) {
            SKIP("no reference data: %s", refused[i]);
            continue;
        }
        CHECK(rc == MOSHI_EMODEL && strstr(err.text, "conditioners"), "%s: %d %s", refused[i], rc,
              err.text);
    }
}

int main(void) {
    test_lm_values();
    test_hidden();
    test_lm_options();
    test_no_depformer();
    test_lm_refusals();
    test_bad_texts();
    test_mimi_values();
    test_mimi_refusals();
    test_kinds();
    test_memory();
    test_golden();
    return check_done("test_config");
}
