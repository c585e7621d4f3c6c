package settings

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dokku-expose/deploy"
)

var fuzzTexts = []string{
	"", "# a\n", "hold = \"1s\"", "hold='1s' # a # b\n# c\ndrain-wait=\"1m\"\n", "\ufeffhold = '1s'\r\n# a\r\n",
	"hold = \"\"\"\n1s\"\"\" # a\n", "hold = '''1s''' # '''\n", "max-ports = 0x1_0 # \"\n", "'hold' = '1s'\n\"drain-wait\" = '1s'\n",
	"mappings = [ # a\n  \"25:5025\", # b\n  # c\n\n  '[::1]:26:26 process=imap' ] # d\ndisabled = true # e\n",
	"mappings=['25:25','26:26',# a\n,]\n", "mappings = []\n", "ports-file = \"a]b\" # ]\n", "allow-bind = 'any'\n  \t# a",
}

// comments finds the comments of a file none of whose values has a "#" in it.
func comments(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if i := strings.IndexByte(line, '#'); i >= 0 {
			found = append(found, strings.TrimRight(line[i:], "\r\n"))
		}
	}
	slices.Sort(found)
	return found
}

func hash(values map[string]string) bool {
	for _, value := range values {
		if strings.Contains(value, "#") {
			return true
		}
	}
	return false
}

// Whatever a good file looks like, setting a key sets that key: the others, the mappings and the comments stay.
func FuzzSet(f *testing.F) {
	for i, text := range fuzzTexts {
		f.Add(text, i, "1s")
		f.Add(text, i+3, "")
		f.Add(text, i+7, "25")
	}
	f.Fuzz(func(t *testing.T, before string, which int, value string) {
		old, err := decode("f", before, "mail")
		key := keys[uint(which)%uint(len(keys))]
		if err != nil || !key.in("mail") || value != "" && key.put(new(Values), value) != nil {
			t.Skip()
		}
		quoted := ""
		if value != "" {
			quoted = quote(value)
		}
		after, err := edit(before, key.Name, quoted)
		if err != nil {
			t.Fatalf("%q can't be edited: %v", before, err)
		}
		got, err := decode("f", after, "mail")
		if err != nil {
			t.Fatalf("%q becomes %q: %v", before, after, err)
		}
		want := maps.Clone(old.Settings)
		if delete(want, key.Name); value != "" {
			want[key.Name] = value
		}
		if !maps.Equal(got.Settings, want) || !slices.Equal(got.Mappings, old.Mappings) || got.Disabled != old.Disabled {
			t.Fatalf("%q becomes %q: %+v, want %v and all else of %+v", before, after, got, want, old)
		}
		if !hash(old.Settings) && !hash(got.Settings) && !slices.Equal(comments(before), comments(after)) {
			t.Fatalf("%q becomes %q: the comments %q become %q", before, after, comments(before), comments(after))
		}
	})
}

// Whatever a good list of mappings looks like, it is edited as meant, or not at all; no comment is lost.
func FuzzSetMappings(f *testing.F) {
	for i, text := range fuzzTexts {
		f.Add(text, "27:27\n25:25", uint(i))
		f.Add(text, "", uint(i))
	}
	f.Fuzz(func(t *testing.T, before, added string, keep uint) {
		old, err := decode("f", before, "mail")
		if err != nil || hash(old.Settings) {
			t.Skip()
		}
		// Some of the old ones, and those of a PORTS file behind them.
		var mappings []deploy.Mapping
		for i, m := range old.Mappings {
			if keep>>(i%8)&1 == 1 {
				mappings = append(mappings, m)
			}
		}
		entries, err := deploy.ParsePorts("", added)
		if err != nil {
			t.Skip()
		}
		for _, e := range entries {
			mappings = append(mappings, e.Mapping)
		}
		if checkMappings(mappings) != nil {
			t.Skip()
		}
		after, err := editMappings(before, mappings)
		if err != nil {
			return
		}
		got, err := decode("f", after, "mail")
		if err != nil {
			t.Fatalf("%q becomes %q: %v", before, after, err)
		}
		if !reflect.DeepEqual(got.Settings, old.Settings) || !slices.Equal(got.Mappings, mappings) || got.Disabled != old.Disabled {
			t.Fatalf("%q becomes %q: %+v, want %v and all else of %+v", before, after, got, mappings, old)
		}
		if !slices.Equal(comments(before), comments(after)) {
			t.Fatalf("%q becomes %q: the comments %q become %q", before, after, comments(before), comments(after))
		}
	})
}
