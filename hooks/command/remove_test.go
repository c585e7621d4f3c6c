package command

import (
	"testing"

	"dokku-expose/deploy"
)

// A conflict names an operator's mapping as expose:remove takes it back.
func TestMappingIsNamedAsItIsRemoved(t *testing.T) {
	for _, text := range []string{"25:5025", "6000-6010:7000-7010", "127.0.0.1:25:5025", "[::1]:6000-6010:7000-7010"} {
		m, err := deploy.ParseMapping(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range deploy.OperatorClaims("mail", m) {
			if rest, err := without("mail", []deploy.Mapping{m}, []string{c.Mapping()}); err != nil || len(rest) > 0 {
				t.Errorf("%s, public port %s: %v is left, %v", text, c.Key, rest, err)
			}
		}
	}
}
