/* repos.c - reading the table, and finding what was meant. */
#include "repos.h"

#include "embedded.h"
#include "options.h"

#include <stdio.h>
#include <string.h>

int known_repos(known_repo repos[KNOWN_REPOS_MAX]) {
    const char *line = embedded_repos();
    int n = 0;
    while (*line && n < KNOWN_REPOS_MAX) {
        size_t length = strcspn(line, "\n");
        char text[300];
        known_repo *repo = &repos[n];
        snprintf(text, sizeof text, "%.*s", (int)length, line);
        if (text[0] != '#' &&
            sscanf(text, "%63s %lf %15s %31s %23s %47s %79[^\n]", repo->name, &repo->gigabytes,
                   repo->verb, repo->shape, repo->form, repo->file, repo->what) == 7)
            n++;
        line += length + (line[length] == '\n');
    }
    return n;
}

int repos_like(const char *shape, const char *form, known_repo *found, int max) {
    known_repo repos[KNOWN_REPOS_MAX];
    int n = known_repos(repos), k = 0;
    for (int i = 0; i < n && k < max; i++)
        if (!strcmp(repos[i].shape, shape) && !strcmp(repos[i].form, form)) found[k++] = repos[i];
    return k;
}

void nearest_repo(const char *name, char out[64]) {
    known_repo repos[KNOWN_REPOS_MAX];
    const char *names[KNOWN_REPOS_MAX];
    int n = known_repos(repos);
    for (int i = 0; i < n; i++) names[i] = repos[i].name;
    const char *near = nearest_word(name, names, n);
    snprintf(out, 64, "%s", near && strcmp(near, name) != 0 ? near : "");
}

void print_known_repos(void) {
    known_repo repos[KNOWN_REPOS_MAX];
    int n = known_repos(repos);
    printf("%-32s %8s  %-6s %s\n", "repository", "download", "verb", "what it is");
    for (int i = 0; i < n; i++)
        printf("%-32s %5.1f GB  %-6s %s\n", repos[i].name, repos[i].gigabytes, repos[i].verb,
               repos[i].what);
    printf(
        "\nThe verb is what runs it in this version; models with \"-\" can be downloaded and\n"
        "inspected. \"gated\": accept the licence at https://huggingface.co/REPOSITORY first.\n");
}
