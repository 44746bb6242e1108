/* Shapes are (height, width, channels); numbers of a map lie channel by channel, then column by column. */
typedef struct {
    int height, width, channels, out_height, out_width, out_channels;
    int window_height, window_width, down, right, top, left, groups;
} student_shape;

/* A number is (code - zero) * step. Here are the zeros, how sums become codes, and the smallest code. */
typedef struct {
    int reads, adds, gives, low, shift;
    int32_t added;
} student_codes;

/* product / 2^shift, half away from zero, as a code. */
static inline int8_t student_rounded(int64_t product, const student_codes *codes)
{
    const int64_t half = (int64_t)1 << (codes->shift - 1);
    int64_t code = product < 0 ? -((half - product) >> codes->shift) : (product + half) >> codes->shift;
    code += codes->gives;
    return (int8_t)(code < codes->low ? codes->low : code > 127 ? 127 : code);
}

/* A dense layer or a convolution, of `groups` groups, with what is added to it; `sums`, if there, get what it sums. */
static inline void student_product(const student_shape *shape, const student_codes *codes, const int8_t *weights,
                                   const int32_t *bias, const int32_t *multipliers, const int8_t *x,
                                   const int8_t *beside, int8_t *y, int32_t *sums)
{
    const int inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    int row, column, output, down, right, input;
    for (row = 0; row < shape->out_height; ++row) {
        for (column = 0; column < shape->out_width; ++column) {
            const int8_t *weight = weights;
            for (output = 0; output < shape->out_channels; ++output) {
                int32_t sum = bias[output];
                for (down = 0; down < shape->window_height; ++down) {
                    const int at = row * shape->down - shape->top + down;
                    for (right = 0; right < shape->window_width; ++right, weight += inputs) {
                        const int across = column * shape->right - shape->left + right;
                        if (at >= 0 && at < shape->height && across >= 0 && across < shape->width) {
                            const int8_t *from = x + (at * shape->width + across) * shape->channels;
                            from += output / outputs * inputs;
                            for (input = 0; input < inputs; ++input) {
                                sum += ((int32_t)from[input] - codes->reads) * weight[input];
                            }
                        }
                    }
                }
                if (sums) {
                    *sums++ = sum;
                } else {
                    int64_t product = (int64_t)sum * multipliers[output];
                    if (beside) {
                        product += (int64_t)(*beside++ - codes->adds) * codes->added;
                    }
                    *y++ = student_rounded(product, codes);
                }
            }
        }
    }
}

/* The sum of a window of each channel, or its maximum where there are no multipliers. */
static inline void student_pooled(const student_shape *shape, const student_codes *codes, const int32_t *bias,
                                  const int32_t *multipliers, const int8_t *x, int8_t *y)
{
    int row, column, channel, down, right;
    for (row = 0; row < shape->out_height; ++row) {
        for (column = 0; column < shape->out_width; ++column) {
            for (channel = 0; channel < shape->channels; ++channel) {
                int32_t found = multipliers ? bias[channel] : codes->low;
                for (down = 0; down < shape->window_height; ++down) {
                    const int at = row * shape->down - shape->top + down;
                    for (right = 0; right < shape->window_width; ++right) {
                        const int across = column * shape->right - shape->left + right;
                        if (at >= 0 && at < shape->height && across >= 0 && across < shape->width) {
                            const int8_t code = x[(at * shape->width + across) * shape->channels + channel];
                            if (multipliers) {
                                found += (int32_t)code - codes->reads;
                            } else if (code > found) {
                                found = code;
                            }
                        }
                    }
                }
                *y++ = multipliers ? student_rounded((int64_t)found * multipliers[channel], codes) : (int8_t)found;
            }
        }
    }
}
