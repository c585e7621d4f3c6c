package portsfile

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// mention is a number, or two of them with a hyphen between, that is no part of a word.
var mention = regexp.MustCompile(`\b(\d+)(?:-(\d+))?\b`)

// lineEnds are those of a text within a string of JSON or TOML. The zero bytes are those of UTF-16.
var lineEnds = strings.NewReplacer(`\n`, " ", `\r`, " ", `\t`, " ", "\x00", "")

// Mentioned returns the ports that a text may be about, when nobody can tell what it says: all numbers in it that can be ports, and
// all ranges. It is rather one too many than one too few.
func Mentioned(text string) []Range {
	var ranges []Range
	for _, m := range mention.FindAllStringSubmatch(lineEnds.Replace(text), -1) {
		first, firstIs := parsePort(m[1])
		last, lastIs := parsePort(m[2])
		switch {
		case firstIs && lastIs && first <= last:
			ranges = append(ranges, Range{first, last})
			continue
		case firstIs:
			ranges = append(ranges, Range{first, first})
		}
		if lastIs {
			ranges = append(ranges, Range{last, last})
		}
	}
	return Join(ranges)
}

// parsePort takes zeros in front, which a broken text may have.
func parsePort(text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n > 0
}

// Join returns the same ports in as few ranges as there can be, in ascending order.
func Join(ranges []Range) []Range {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b Range) int { return int(a.First) - int(b.First) })
	var joined []Range
	for _, r := range sorted {
		if n := len(joined); n > 0 && int(r.First) <= int(joined[n-1].Last)+1 {
			joined[n-1].Last = max(joined[n-1].Last, r.Last)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}
