// build: clang @../../flags -o sensor-anomaly.wasm sensor-anomaly.c
//
// Watches sensors: code 1 for a value far from what the sensor has shown so far, code 2 for a value
// outside fixed limits.
//
// Code 2 depends on the event alone. Code 1 is best effort: mean and variance live in this
// instance's memory. They are lost when the server replaces the instance, a sensor whose events go
// to several workers is learned by each, and two sensors that fall into one slot push each other
// out. Such a sensor is quiet until it has been seen `warmup` times again.
#include "../../wasmeval.h"

WE_MANIFEST("{\"description\":\"sensor values far from their mean (1) or outside limits (2)\","
            "\"match\":[\"sensor.reading\"],"
            "\"fields\":["
            "{\"path\":\"sensor\",\"type\":\"utf8\"},"
            "{\"path\":\"value\",\"type\":\"f64\"}],"
            "\"params\":["
            "{\"name\":\"sigmas\",\"type\":\"f64\",\"default\":5,"
            "\"description\":\"distance from the mean that passes, in standard deviations\"},"
            "{\"name\":\"min_sigma\",\"type\":\"f64\",\"default\":0.2,"
            "\"description\":\"least standard deviation to assume, in the value's unit\"},"
            "{\"name\":\"alpha\",\"type\":\"f64\",\"default\":0.1,"
            "\"description\":\"weight of a new value in the moving mean, 0 to 1\"},"
            "{\"name\":\"warmup\",\"type\":\"i64\",\"default\":8,"
            "\"description\":\"values of a sensor that pass before it is judged\"},"
            "{\"name\":\"low\",\"type\":\"f64\",\"default\":-50,"
            "\"description\":\"lowest value that passes\"},"
            "{\"name\":\"high\",\"type\":\"f64\",\"default\":150,"
            "\"description\":\"highest value that passes\"}]}")

typedef struct {
    uint64_t name; // hash
    double mean, variance;
    int64_t seen;
} sensor;

enum { SLOTS = 1024 };

static sensor sensors[SLOTS];
static double sigmas, min_sigma, alpha, low, high;
static int64_t warmup;
static char buf[1024];

WE_CONFIGURE(params) {
    return !we_param_f64(params, "sigmas", &sigmas) ||
           !we_param_f64(params, "min_sigma", &min_sigma) ||
           !we_param_f64(params, "alpha", &alpha) || !we_param_i64(params, "warmup", &warmup) ||
           !we_param_f64(params, "low", &low) || !we_param_f64(params, "high", &high) ||
           alpha <= 0 || alpha > 1 || min_sigma < 0;
}

// lookup gives the sensor's slot (FNV-1a), and takes it from another sensor if need be.
static sensor *lookup(we_text name) {
    uint64_t h = 14695981039346656037u;
    for (uint32_t i = 0; i < name.len; i++) h = (h ^ (uint8_t)name.ptr[i]) * 1099511628211u;
    sensor *s = &sensors[(h ^ h >> 32) % SLOTS];
    if (s->name != h) *s = (sensor){.name = h};
    return s;
}

static double clamp(double v, double most) { return v > most ? most : v < -most ? -most : v; }

static void emit(uint32_t row, we_text name, const sensor *s, double value, double sigma) {
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    we_key(&j, "sensor");
    we_put_str(&j, name);
    we_key(&j, "value");
    we_put_f64(&j, value);
    if (s->seen > 0) {
        we_key(&j, "mean");
        we_put_f64(&j, s->mean);
        we_key(&j, "sigma");
        we_put_f64(&j, sigma);
    }
    we_close(&j, '}');
    we_emit_json(row, &j);
}

static int32_t judge(uint32_t row, we_text name, double value) {
    sensor *s = lookup(name);
    double sigma = __builtin_sqrt(s->variance);
    if (sigma < min_sigma) sigma = min_sigma;
    double off = value - s->mean, most = sigmas * sigma;
    bool judged = s->seen >= warmup;
    int32_t code = value < low || value > high ? 2 : judged && (off > most || off < -most);
    if (code) emit(row, name, s, value, sigma);
    // An outlier moves the mean no further than the farthest value that passes.
    if (s->seen++ == 0) {
        s->mean = value < low ? low : value > high ? high : value;
        return code;
    }
    if (judged || code == 2) off = clamp(off, most);
    s->mean += alpha * off;
    s->variance = (1 - alpha) * (s->variance + alpha * off * off);
    return code;
}

WE_EVALUATE(b) {
    const we_column *name = we_col(b, 0), *value = we_col(b, 1);
    for (uint32_t row = 0; row < b->rows; row++)
        if (we_valid(b, name, row) && we_valid(b, value, row))
            we_verdicts(b)[row] = judge(row, we_str(b, name, row), we_f64(b, value, row));
    return 0;
}
