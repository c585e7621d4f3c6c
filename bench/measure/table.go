package measure

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Table writes rows as a table in Markdown, whose columns are aligned for those who read it as it is. The first row is the
// heading; columns but the first are aligned to the right.
func Table(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 3)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, width := range widths {
			cell := ""
			if i < len(row) {
				cell = row[i]
			}
			if i == 0 {
				fmt.Fprintf(&b, "| %-*s |", width, cell)
			} else {
				fmt.Fprintf(&b, " %*s |", width, cell)
			}
		}
		b.WriteByte('\n')
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				b.WriteString("| " + strings.Repeat("-", width) + " |")
			} else {
				b.WriteString(" " + strings.Repeat("-", width-1) + ": |")
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Number writes a value with three digits that count, or all digits before the point, thousands apart: 0.0123, 4.56, 78.9, 1,234;
// whole numbers as such.
// NaN, which is no value, is "-".
func Number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	decimals := 0
	if size := math.Abs(v); size != math.Trunc(size) {
		decimals = min(max(2-int(math.Floor(math.Log10(size))), 0), 6)
	}
	text := fmt.Sprintf("%.*f", decimals, v)
	whole, fraction, _ := strings.Cut(text, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	return sign + whole + fraction
}
