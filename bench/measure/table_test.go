package measure

import (
	"math"
	"testing"
)

func TestTable(t *testing.T) {
	got := Table([][]string{{"", "A", "proxy"}, {"µs", "1", "22 (0.50)"}, {"a longer title", "300"}})
	const want = `|                |   A |     proxy |
| -------------- | --: | --------: |
| µs             |   1 | 22 (0.50) |
| a longer title | 300 |           |
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{
		"-": math.NaN(), "0": 0, "0.0123": 0.01234, "0.000012": 0.0000123, "1.23": 1.234, "12.3": 12.34, "12": 12, "123": 123.4, "1,234": 1234.4,
		"12,345": 12345, "1,234,567": 1234567, "-1,234": -1234, "-0.500": -0.5,
	} {
		if got := Number(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
