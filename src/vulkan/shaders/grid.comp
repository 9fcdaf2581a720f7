#version 450
// grid.comp - the token grid: backend.h, mo_op_grid_read and mo_op_grid_write.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = 64) in;
layout(set = 0, binding = 1) coherent buffer Cache { int data[]; } cache;
layout(set = 0, binding = 2) coherent buffer Step { int data[]; } steps;
layout(set = 0, binding = 3) readonly buffer Delays { int data[]; } delays;
layout(set = 0, binding = 4) readonly buffer Given { int data[]; } given; // user codes or tokens
layout(set = 0, binding = 5) buffer Out { int data[]; } dst;
layout(push_constant) uniform Push {
    view cache, steps, given, dst;
    uint units, writes, columns, n_q, dep_q;
    uint delays; // where they begin
    int max_delay, text_initial, audio_initial, none;
} p;

uint cell(uint slot, int column, uint c) { return at(p.cache, slot, uint(column) % p.columns) + c; }

void read_grid(uint slot, int o) {
    for (uint c = gl_LocalInvocationID.x; c <= p.n_q; c += 64) {
        int delay = delays.data[p.delays + c];
        if (c > p.dep_q)
            cache.data[cell(slot, o + delay, c)] = given.data[at(p.given, slot, 0) + c - 1 - p.dep_q];
        int initial = c == 0u ? p.text_initial : p.audio_initial;
        dst.data[at(p.dst, slot, 0) + c] = o <= delay ? initial : cache.data[cell(slot, o, c)];
    }
}

void write_grid(uint slot, int o) {
    for (uint c = gl_LocalInvocationID.x; c <= p.dep_q; c += 64) {
        int delay = delays.data[p.delays + c];
        cache.data[cell(slot, o, c)] = given.data[at(p.given, slot, 0) + c];
        dst.data[at(p.dst, slot, 0) + c] =
            o > p.max_delay ? cache.data[cell(slot, o - p.max_delay + delay, c)] : p.none;
    }
}

void main() {
    uint slot = unit();
    if (slot >= p.units || !takes_part(slot)) return;
    uint s = at(p.steps, slot, 0);
    int o = steps.data[s];
    barrier(); // everybody has read it
    if (p.writes == 0u) {
        read_grid(slot, o);
        return;
    }
    write_grid(slot, o + 1);
    if (gl_LocalInvocationID.x == 0) steps.data[s] = o + 1;
}
