"""Loops that paddle's CPU build takes many passes over memory for, each in one pass (numba).

All arrays are float32 and contiguous. Compiled when first imported on a machine (three seconds),
and kept beside this file, or in the user's cache where that cannot be written. They release the
interpreter lock: `models.cpu.row_threads` runs them on several threads. NaN comes out where NaN
goes in.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

F = np.float32


def compiled(signature: str, *relaxed: str):
    """A kernel. Multiply-adds may be fused; with "reassoc" sums may be taken in vectors."""
    options = {"nogil": True, "fastmath": {"contract", *relaxed}, "error_model": "numpy"}

    def compile_(function):
        try:
            return njit(signature, cache=True, **options)(function)
        except RuntimeError:  # numba finds no folder to keep it in
            return njit(signature, **options)(function)

    return compile_


@njit(inline="always")
def exp(x):
    """e^x to 1e-7 relative (Cephes' expf); below e^-87 it is e^-87."""
    x = F(88.0) if x > F(88.0) else x
    x = F(-87.0) if x < F(-87.0) else x
    n = np.floor(x * F(1.44269504088896341) + F(0.5))
    r = x - n * F(0.693359375) - n * F(-2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1.0)
    two_to_n = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * two_to_n


@njit(inline="always")
def erf(x):
    """erf(x) to 4e-7, the rational function of x^2 that Eigen (and so paddle) has for floats."""
    x = F(4.0) if x > F(4.0) else x
    x = F(-4.0) if x < F(-4.0) else x
    y = x * x
    p = F(-2.72614225801306e-10)
    p = p * y + F(2.77068142495902e-08)
    p = p * y + F(-2.10102402082508e-06)
    p = p * y + F(-5.69250639462346e-05)
    p = p * y + F(-7.34990630326855e-04)
    p = p * y + F(-2.95459980854025e-03)
    p = p * y + F(-1.60960333262415e-02)
    q = F(-1.45660718464996e-05)
    q = q * y + F(-2.13374055278905e-04)
    q = q * y + F(-1.68282697438203e-03)
    q = q * y + F(-7.37332916720468e-03)
    q = q * y + F(-1.42647390514189e-02)
    return x * p / q


@njit(inline="always")
def _normal_cdf(x):
    return F(0.5) + F(0.5) * erf(x * F(math.sqrt(0.5)))


@njit(inline="always")
def moments(row, epsilon):
    """A row's mean, and one over its standard deviation, as LayerNorm takes them."""
    part = F(1.0) / F(row.size)
    mean, variance = F(0.0), F(0.0)
    for j in range(row.size):
        mean += row[j]
    mean *= part
    for j in range(row.size):
        variance += (row[j] - mean) * (row[j] - mean)
    return mean, F(1.0) / np.sqrt(variance * part + epsilon)


@compiled("void(float32[:,::1], float32[::1])")
def add_to_rows(rows, values):
    """rows [n, D] += values [D]."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[i, j] += values[j]


@compiled("void(float32[:,::1], float32[::1], float32[:,::1])")
def add_to_rows_and(rows, values, others):
    """rows [n, D] = others [n, D] + (rows + values [D])."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[i, j] = others[i, j] + (rows[i, j] + values[j])


@compiled("void(float32[:,::1], float32[::1])")
def add_rows(rows, sums):
    """sums [D] += each of rows [n, D]."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            sums[j] += rows[i, j]


@compiled("void(float32[:,::1], float32[::1], float32[:,::1])")
def gelu(x, bias, out):
    """v Phi(v) of v = x + bias; x, out [n, D], bias [D]."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            v = x[i, j] + bias[j]
            out[i, j] = v * _normal_cdf(v)


@compiled("void(float32[:,::1], float32[::1], float32[:,::1], float32[:,::1])")
def gelu_with_derivative(x, bias, out, derivative):
    """v Phi(v), and Phi(v) + v phi(v), of v = x + bias; bias [D], the others [n, D]."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            v = x[i, j] + bias[j]
            cumulative = _normal_cdf(v)
            density = exp(F(-0.5) * v * v) * F(1.0 / math.sqrt(2.0 * math.pi))
            out[i, j] = v * cumulative
            derivative[i, j] = cumulative + v * density


@compiled("void(float32[:,::1], float32[:,::1], float32[:,::1], float32[::1])")
def product_and_sums(a, b, out, sums):
    """out = a b, all [n, D]; sums [D] += each of out's rows."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            value = a[i, j] * b[i, j]
            out[i, j] = value
            sums[j] += value


@compiled(
    "void(float32[:,::1], float32[::1], float32[::1], float32, float32[:,::1], float32[:,::1])",
    "reassoc",
)
def layer_norm(x, weight, bias, epsilon, copy, out):
    """copy = x, out = LayerNorm over rows [n, D]."""
    for i in range(x.shape[0]):
        mean, scale = moments(x[i], epsilon)
        for j in range(x.shape[1]):
            copy[i, j] = x[i, j]
            out[i, j] = (x[i, j] - mean) * scale * weight[j] + bias[j]


@compiled(
    "void(float32[:,::1], float32[:,::1], float32[:,::1], float32[::1], float32, float32[:,::1],"
    " float32[:,::1])",
    "reassoc",
)
def layer_norm_backward(x, grad, grad_copy, weight, epsilon, grad_x, sums):
    """grad_x = grad_copy + that of LayerNorm, rows [n, D]; sums [2, D] += weight's and bias's."""
    width = x.shape[1]
    part = F(1.0) / F(width)
    for i in range(x.shape[0]):
        mean, scale = moments(x[i], epsilon)
        # d/dx = scale (g w - mean(g w) - normed mean(g w normed))
        first, second = F(0.0), F(0.0)
        for j in range(width):
            weighted = grad[i, j] * weight[j]
            first += weighted
            second += weighted * (x[i, j] - mean)
        first *= part
        second *= part * scale
        for j in range(width):
            normed = (x[i, j] - mean) * scale
            g = grad[i, j]
            sums[0, j] += g * normed
            sums[1, j] += g
            grad_x[i, j] = grad_copy[i, j] + scale * (g * weight[j] - first - normed * second)


@compiled(
    "void(float32[::1], float32[::1], float32[::1], float32[::1], float32, float32, float32,"
    " float32, float32, float32)"
)
def adamw(weights, gradient, moment1, moment2, beta1, beta2, kept, rate, root, epsilon):
    """One AdamW update in place (Loshchilov & Hutter 2019).

    kept = 1 - lr weight_decay, rate = lr / (1 - beta1^step), root = sqrt(1 - beta2^step).
    """
    for i in range(weights.size):
        g = gradient[i]
        m = beta1 * moment1[i] + (F(1.0) - beta1) * g
        v = beta2 * moment2[i] + (F(1.0) - beta2) * g * g
        moment1[i], moment2[i] = m, v
        weights[i] = kept * weights[i] - rate * (m / (np.sqrt(v) / root + epsilon))


@compiled("void(float32[::1], float32[::1], float32)")
def move(average, weights, share):
    """average += share (weights - average)."""
    for i in range(average.size):
        average[i] += share * (weights[i] - average[i])
