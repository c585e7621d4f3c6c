package measure

import (
	"math"
	"testing"
)

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, tt := range []struct {
		name   string
		sorted []float64
		p      float64
		want   float64
	}{
		{"none", nil, 0.5, math.NaN()},
		{"one", []float64{7}, 0.99, 7},
		{"the middle of three", []float64{1, 2, 9}, 0.5, 2},
		{"the middle of four is the lower one", []float64{1, 2, 3, 4}, 0.5, 2},
		{"the 99th of a hundred", hundred, 0.99, 99},
		{"the last", hundred, 1, 100},
		{"the first", hundred, 0, 1},
	} {
		if got := Percentile(tt.sorted, tt.p); !equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, math.NaN()},
		{"no result in any round", []float64{math.NaN(), math.NaN()}, math.NaN()},
		{"odd, not sorted", []float64{9, 1, 2}, 2},
		{"even", []float64{4, 1, 3, 2}, 2.5},
		{"a round without a result", []float64{math.NaN(), 5, 1, 3}, 3},
	} {
		before := append([]float64(nil), tt.values...)
		if got := Median(tt.values); !equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		for i := range before {
			if !equal(before[i], tt.values[i]) {
				t.Errorf("%s: the values were changed to %v", tt.name, tt.values)
			}
		}
	}
}

func TestRatio(t *testing.T) {
	for _, tt := range []struct {
		name         string
		values, base []float64
		want         float64
	}{
		{"none", nil, nil, math.NaN()},
		{"no base", []float64{1, 2}, nil, math.NaN()},
		// The ratio of the medians would be 1.
		{"by round", []float64{10, 20, 60}, []float64{20, 40, 10}, 0.5},
		{"a base of 0", []float64{3, 1}, []float64{0, 2}, 0.5},
		{"a round without a result", []float64{math.NaN(), 4, 4}, []float64{1, 2, 2}, 2},
	} {
		if got := Ratio(tt.values, tt.base); !equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func equal(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
