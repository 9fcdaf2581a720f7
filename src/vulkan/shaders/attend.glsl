// attend.glsl - positions that one workgroup takes; lower.c counts on it, too.
const uint PART = 128;
