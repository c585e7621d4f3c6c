package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"dokku-expose/bench/measure"
)

// report is what was measured, in Markdown.
func (c *comparison) report(all []running) string {
	reference := c.mode.reference()
	text := []string{
		fmt.Sprintf("Medians of %d rounds of %s each, the proxies in turn, in one run on loopback, on whose cores the clients and the "+
			"server run too; in brackets the ratio to %s (the median of each round's ratio).",
			c.rounds, c.duration, peers[slices.IndexFunc(peers, func(p peer) bool { return p.name == reference })].title),
		"Machine: " + c.machine + c.versions() + ".",
		c.table(all),
		"- " + strings.Join(c.notes, "\n- "),
	}
	return strings.Join(text, "\n\n") + "\n"
}

// versions are those of the programs that were measured.
func (c *comparison) versions() string {
	var text string
	for _, p := range []struct{ name, program, flag string }{{"HAProxy", "haproxy", "-v"}, {"nginx", "nginx", "-v"}} {
		if path, err := measure.Find(p.program, p.program); err == nil {
			if version, err := measure.Version(path, p.flag); err == nil {
				text += fmt.Sprintf(", %s %s", p.name, version)
			}
		}
	}
	return text
}

func (c *comparison) table(all []running) string {
	heading := []string{""}
	for _, r := range all {
		heading = append(heading, r.title)
	}
	rows, reference := [][]string{heading}, c.mode.reference()
	for _, k := range c.kinds {
		for _, row := range k.rows {
			cells := []string{row.title}
			for _, r := range all {
				cells = append(cells, row.cell(c.samples[r.name][row.title], c.samples[reference][row.title], r.name == reference))
			}
			rows = append(rows, cells)
		}
	}
	return strings.TrimRight(measure.Table(rows), "\n")
}

// cell is the median of the values and its ratio to the reference.
func (r row) cell(values, base []float64, isReference bool) string {
	if r.yes {
		if len(values) > 0 && slices.Min(values) == 1 {
			return "yes"
		}
		return "no"
	}
	text := measure.Number(measure.Median(values))
	if ratio := measure.Ratio(values, base); !isReference && !math.IsNaN(ratio) {
		text += fmt.Sprintf(" (%.2f)", ratio)
	}
	return text
}
