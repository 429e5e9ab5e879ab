// The two ends of the fusion on a GPU: from planes as they were captured to what the network takes, and from what it
// gives to the planes of a frame. One thread a pixel, or a cell of 2x2 pixels with its chroma. Each kernel has a twin in
// `twins.py` that says the same in torch and is the reference in tests. Plain C++ but for a few words of CUDA, so that
// tests without a GPU compile it for the processor.

// Grey level of a count.
template <typename Count>
__device__ inline float level(const Count* plane, long long pitch, const unsigned char* table, int x, int y) {
    const Count count = plane[y * pitch + x];
    return table ? table[count] : count;
}

__device__ inline int within(int value, int most) { return value < 0 ? 0 : value > most ? most : value; }

// A plane of counts, (rows, columns) with `pitch` counts a row, to (height, width) values in -1..1: the gain's table,
// the warp (nine numbers, row by row, from (x, y, 1) of the fused picture to the plane's; bilinear, and beyond its border
// a plane repeats its last pixels), and black and white to -1 and 1.
template <typename Count, typename Value>
__global__ void prepare(const Count* plane, int rows, int columns, long long pitch, const unsigned char* table,
                        const float* warp, float black, float scale, Value* out, int height, int width) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    float grey;
    if (warp) {
        const float w = warp[6] * x + warp[7] * y + warp[8];
        const float u = fminf(fmaxf((warp[0] * x + warp[1] * y + warp[2]) / w, -1.0f), columns);
        const float v = fminf(fmaxf((warp[3] * x + warp[4] * y + warp[5]) / w, -1.0f), rows);
        const float left = floorf(u), top = floorf(v);
        const int x0 = within((int)left, columns - 1), x1 = within((int)left + 1, columns - 1);
        const int y0 = within((int)top, rows - 1), y1 = within((int)top + 1, rows - 1);
        const float over = u - left, under = v - top;
        const float above = level(plane, pitch, table, x0, y0) * (1 - over) + level(plane, pitch, table, x1, y0) * over;
        const float below = level(plane, pitch, table, x0, y1) * (1 - over) + level(plane, pitch, table, x1, y1) * over;
        grey = above * (1 - under) + below * under;
    } else {
        grey = level(plane, pitch, table, x, y);
    }
    out[(long long)y * width + x] = (Value)((grey - black) * scale - 1.0f);
}

// Values in -1..1 to grey levels, rounded and clipped.
template <typename Value>
__device__ inline unsigned char grey_of(Value value, float half_span, float black, float top) {
    const float grey = rintf(((float)value + 1.0f) * half_span + black);
    return (unsigned char)fminf(fmaxf(grey, black), top);
}

template <typename Value>
__global__ void finish(const Value* fused, float half_span, float black, float top, unsigned char* luma, int height,
                       int width) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < width && y < height) {
        const long long at = (long long)y * width + x;
        luma[at] = grey_of(fused[at], half_span, black, top);
    }
}

__device__ inline int mirrored(int value, int count) {  // the border is mirrored without repeating it
    if (count == 1) return 0;
    return value < 0 ? -value : value >= count ? 2 * count - 2 - value : value;
}

// The mean luma of a cell of 2x2 pixels, rounded.
__device__ inline int cell_luma(const unsigned char* luma, long long pitch, int x, int y) {
    const unsigned char* above = luma + 2 * y * pitch + 2 * x;
    return (above[0] + above[1] + above[pitch] + above[pitch + 1] + 2) >> 2;
}

// As `finish`, with the chroma of the visible frame, calmed where that is dark: see `chroma.calmed`. Of even sizes.
// `ramp` has the gain, in 128ths, of each mean luma; u and v follow the fused luma without a gap, as in yuv420p.
template <typename Value>
__global__ void finish_calmed(const Value* fused, float half_span, float black, float top, const unsigned char* visible,
                              const unsigned char* ramp, unsigned char* out, int height, int width) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    const int columns = width / 2, rows = height / 2;
    if (x >= columns || y >= rows) return;
    for (int dy = 0; dy < 2; dy++)
        for (int dx = 0; dx < 2; dx++) {
            const long long at = (long long)(2 * y + dy) * width + 2 * x + dx;
            out[at] = grey_of(fused[at], half_span, black, top);
        }
    int sum = 0;
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++)
            sum += cell_luma(visible, width, mirrored(x + dx, columns), mirrored(y + dy, rows));
    const int gain = ramp[(2 * sum + 9) / 18];
    const long long luma = (long long)height * width, cells = (long long)rows * columns, at = (long long)y * columns + x;
    for (int plane = 0; plane < 2; plane++) {
        const int own = visible[luma + plane * cells + at];
        out[luma + plane * cells + at] = (unsigned char)(((own - 128) * gain + (128 << 7) + 64) >> 7);
    }
}
