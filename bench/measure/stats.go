package measure

import (
	"math"
	"slices"
)

// Percentile is the smallest of the values, which are sorted, that at least the share p (0 to 1) of them does not exceed; NaN
// when there are none.
func Percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	i := int(math.Ceil(p*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// Median is the value in the middle, of an even number the mean of the two; NaN when there are none. Values that are NaN, which
// are rounds without a result, don't count.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(slices.DeleteFunc(slices.Clone(values), math.IsNaN)))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Ratio is the median of the ratios of values to base, round by round: a machine that is slower for some rounds is so for both.
// Rounds that one of them has no result of, or 0 in the base, don't count; NaN when none does.
func Ratio(values, base []float64) float64 {
	var ratios []float64
	for i := range min(len(values), len(base)) {
		if base[i] != 0 {
			ratios = append(ratios, values[i]/base[i])
		}
	}
	return Median(ratios)
}
