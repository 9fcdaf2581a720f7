// sums.glsl - sum and maximum over the THREADS of a workgroup, known to all of them. With SUBGROUP,
// over each subgroup first: of any size, so that `partial` has room for subgroups of one. All
// threads must arrive.

shared float partial[THREADS];

#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

float total(float x) {
    float part = subgroupAdd(x), sum = 0.0;
    barrier(); // the last sum is read by everybody
    if (subgroupElect()) partial[gl_SubgroupID] = part;
    barrier();
    for (uint i = 0; i < gl_NumSubgroups; i++) sum += partial[i];
    return sum;
}
float largest(float x) {
    float part = subgroupMax(x);
    barrier();
    if (subgroupElect()) partial[gl_SubgroupID] = part;
    barrier();
    for (uint i = 0; i < gl_NumSubgroups; i++) part = max(part, partial[i]);
    return part;
}
#else
float total(float x) {
    uint t = gl_LocalInvocationID.x;
    barrier();
    partial[t] = x;
    for (uint n = THREADS / 2; n > 0; n /= 2) {
        barrier();
        if (t < n) partial[t] += partial[t + n];
    }
    barrier();
    return partial[0];
}
float largest(float x) {
    uint t = gl_LocalInvocationID.x;
    barrier();
    partial[t] = x;
    for (uint n = THREADS / 2; n > 0; n /= 2) {
        barrier();
        if (t < n) partial[t] = max(partial[t], partial[t + n]);
    }
    barrier();
    return partial[0];
}
#endif
