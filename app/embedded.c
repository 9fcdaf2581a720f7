/* embedded.c - the files of models/demo, and other data, as bytes of the program.
 *
 * The assembler reads the files, by names relative to the root of the repository, where make runs
 * the compiler. The Makefile lists them as prerequisites of this object, since -MMD does not. */
#include "embedded.h"

#ifdef __APPLE__
#define SYMBOL(name) "_" #name
#define BEGIN        ".section __TEXT,__const\n"
#define HIDE         ".private_extern "
#define END          ".text\n"
#else
#define SYMBOL(name) #name
#define BEGIN        ".pushsection .rodata\n"
#define HIDE         ".hidden "
#define END          ".popsection\n"
#endif

/* name .. name_end: the bytes of a file, aligned so that weights can be used in place. */
#define EMBED(name, file)                                                                          \
    __asm__(BEGIN ".balign 64\n"                                                                   \
                  ".globl " SYMBOL(name) "\n" HIDE SYMBOL(name) "\n" SYMBOL(                       \
                      name) ":\n"                                                                  \
                            ".incbin \"" file "\"\n"                                               \
                            ".globl " SYMBOL(name##_end) "\n" HIDE SYMBOL(name##_end) "\n" SYMBOL( \
                                name##_end) ":\n"                                                  \
                                            ".byte 0\n" END);                                      \
    extern const char name[], name##_end[]

EMBED(app_demo_config, "models/demo/config.json");
EMBED(app_demo_mimi_config, "models/demo/mimi_config.json");
EMBED(app_demo_model, "models/demo/model.safetensors");
EMBED(app_demo_mimi, "models/demo/tokenizer-mimi-demo.safetensors");
EMBED(app_demo_text, "models/demo/tokenizer_spm_demo.model");
EMBED(app_sample_sum, "samples/00_what_is_three_plus_seven_user.wav");
EMBED(app_sample_product, "samples/05_tell_me_nine_times_nine_user.wav");
EMBED(app_repos, "app/repos.txt");

#define BLOB(name, symbol) \
    { name, symbol, (size_t)(symbol##_end - symbol) }

const moshi_blob *embedded_model(void) {
    static moshi_blob files[EMBEDDED_FILES];
    const moshi_blob all[EMBEDDED_FILES] = {
        BLOB("config.json", app_demo_config),
        BLOB("mimi_config.json", app_demo_mimi_config),
        BLOB("model.safetensors", app_demo_model),
        BLOB("tokenizer-mimi-demo.safetensors", app_demo_mimi),
        BLOB("tokenizer_spm_demo.model", app_demo_text),
    };
    for (int i = 0; i < EMBEDDED_FILES; i++) files[i] = all[i];
    return files;
}

const moshi_blob *embedded_samples(void) {
    static moshi_blob files[EMBEDDED_SAMPLES];
    files[0] = (moshi_blob)BLOB("00_what_is_three_plus_seven_user.wav", app_sample_sum);
    files[1] = (moshi_blob)BLOB("05_tell_me_nine_times_nine_user.wav", app_sample_product);
    return files;
}

/* A zero byte follows every embedded file. */
const char *embedded_repos(void) {
    return app_repos;
}
