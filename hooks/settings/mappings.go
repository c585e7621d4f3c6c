package settings

import (
	"errors"
	"strings"

	"dokku-expose/deploy"
)

// editMappings makes the list hold the mappings, in their order, one a line. Comments within the list stay with the mapping
// that they belong to, or stay alone where it goes.
func editMappings(text string, mappings []deploy.Mapping) (string, error) {
	statements, err := split(text)
	if err != nil {
		return "", err
	}
	var old list
	for _, s := range statements {
		if s.key != mappingsKey {
			continue
		}
		if old, err = s.list(text); err != nil {
			return "", err
		}
	}
	lines := old.lines(mappings)
	if len(mappings) > 0 {
		value := "[" + newline(text)
		for _, line := range lines {
			value += "  " + line + newline(text)
		}
		return edit(text, mappingsKey, value+"]")
	}
	// The comments of a list that goes are put where it was.
	for _, s := range statements {
		if s.key == mappingsKey && len(lines) > 0 {
			all := strings.SplitAfter(text, "\n")
			comments := strings.Join(lines, newline(text)) + newline(text)
			all[s.first] = insertBehindMark(all[s.first], comments)
			text = strings.Join(all, "")
		}
	}
	return edit(text, mappingsKey, "")
}

func insertBehindMark(line, inserted string) string {
	rest := strings.TrimPrefix(line, bom)
	return line[:len(line)-len(rest)] + inserted + rest
}

// list is a list of mappings as it is written.
type list struct {
	items []item
	// tail are the comments after the last mapping.
	tail []string
}

// item is a mapping and its comments: those in the lines before it, and the one behind it.
type item struct {
	before  []string
	mapping deploy.Mapping
	behind  string
}

// list reads the comments of a list of mappings. No mapping has a "#" in it, so each one starts a comment.
func (s statement) list(text string) (list, error) {
	errForm := errors.New("its form is too unusual to be edited")
	own := strings.SplitAfter(text, "\n")[s.first : s.last+1]
	behind, err := s.comment(own)
	if err != nil {
		return list{}, err
	}
	body := strings.TrimSuffix(strings.TrimRight(strings.Join(own, ""), "\r\n"), behind)
	_, body, opens := strings.Cut(body, "[")
	body, closes := strings.CutSuffix(strings.TrimRight(body, " \t"), "]")
	if !opens || !closes {
		return list{}, errForm
	}
	var l list
	for line := range strings.SplitSeq(body, "\n") {
		code, comment, found := strings.Cut(strings.TrimRight(line, "\r"), "#")
		var values []any
		if code = strings.Trim(code, " \t,"); code != "" {
			_, value, _ := decodeOne("x = [" + code + "]")
			elements, ok := value.([]any)
			if !ok {
				return list{}, errForm
			}
			values = elements
		}
		mappings, err := decodeMappings(values)
		if err != nil {
			return list{}, err
		}
		for _, m := range mappings {
			l.items = append(l.items, item{before: l.tail, mapping: m})
			l.tail = nil
		}
		switch {
		case found && len(mappings) > 0:
			l.items[len(l.items)-1].behind = "#" + comment
		case found:
			l.tail = append(l.tail, "#"+comment)
		}
	}
	return l, nil
}

// lines writes the mappings with the comments of the list, in the order of the mappings; comments of mappings that are not
// among them come where they were, or last.
func (l list) lines(mappings []deploy.Mapping) []string {
	wanted := make(map[deploy.Mapping]bool, len(mappings))
	for _, m := range mappings {
		wanted[m] = true
	}
	kept := make(map[deploy.Mapping]item, len(l.items))
	var alone []string
	for _, it := range l.items {
		it.before = append(alone, it.before...)
		alone = nil
		if wanted[it.mapping] {
			kept[it.mapping] = it
			continue
		}
		alone = it.before
		if it.behind != "" {
			alone = append(alone, it.behind)
		}
	}
	var lines []string
	for _, m := range mappings {
		it := kept[m]
		lines = append(lines, it.before...)
		line := `"` + m.String() + `",`
		if it.behind != "" {
			line += " " + it.behind
		}
		lines = append(lines, line)
	}
	return append(append(lines, alone...), l.tail...)
}
