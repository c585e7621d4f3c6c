package dokku

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Row is one line of a report.
type Row struct {
	// Flag asks for this row alone: "--expose-engine". The row's label comes from it as well: "Expose engine:".
	Flag  string
	Value string
}

// Report prints the rows of one app, or of [Global], as the reports of Dokku's core look (plugins/common, ReportSingleApp):
// sorted by flag under a heading for the format "stdout" or "", one JSON object of strings whose names are the flags
// without "--expose-" for "json". With only, which is a flag or "", it prints the value of that row and nothing else.
//
// Errors are Dokku's too: another format, a flag that no row has, and only together with "json".
func (p *Printer) Report(app string, rows []Row, format, only string) error {
	rows = slices.SortedFunc(slices.Values(rows), func(a, b Row) int { return strings.Compare(a.Flag, b.Flag) })
	switch {
	case format != "" && format != "stdout" && format != "json":
		return fmt.Errorf(`Format must be "stdout" or "json": %q`, format) //nolint:staticcheck // Dokku's words
	case format == "json" && only != "":
		return errors.New("--format flag cannot be specified when specifying an info flag")
	case format == "json":
		return p.reportJSON(rows)
	case only != "":
		return p.reportOne(rows, only)
	}
	width := 31
	for _, row := range rows {
		width = max(width, len(row.Flag))
	}
	p.Heading("%s %s information", app, Plugin)
	for _, row := range rows {
		write(p.Out, "       ", fmt.Sprintf("%-*s%s", width, label(row.Flag), Visible(row.Value)))
	}
	return nil
}

// label turns "--expose-old-connections" into "Expose old connections:".
func label(flag string) string {
	words := strings.NewReplacer("-", " ", ".", " ").Replace(strings.TrimPrefix(flag, "--"))
	if words == "" {
		return ":"
	}
	return strings.ToUpper(words[:1]) + words[1:] + ":"
}

func (p *Printer) reportJSON(rows []Row) error {
	values := make(map[string]string, len(rows))
	for _, row := range rows {
		name, ok := strings.CutPrefix(row.Flag, "--"+Plugin+"-")
		if !ok {
			name = strings.TrimPrefix(row.Flag, "--")
		}
		values[name] = row.Value
	}
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Out, "%s\n", text)
	return err
}

func (p *Printer) reportOne(rows []Row, only string) error {
	var flags []string
	for _, row := range rows {
		if row.Flag == only {
			_, err := fmt.Fprintln(p.Out, Visible(row.Value))
			return err
		}
		flags = append(flags, row.Flag)
	}
	return fmt.Errorf("Invalid flag passed, valid flags: %s", strings.Join(flags, ", ")) //nolint:staticcheck // Dokku's words
}
