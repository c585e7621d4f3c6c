package proxy

import (
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/proxy/proxytest"
)

func TestCheckRefuses(t *testing.T) {
	good := func() deploy.Route { return proxytest.RouteTo("mail", 25) }
	for _, row := range []struct {
		name  string
		table func() []deploy.Route
	}{
		{"no app", func() []deploy.Route { r := good(); r.App = ""; return []deploy.Route{r} }},
		{"no port", func() []deploy.Route { r := good(); r.Key.Port = 0; return []deploy.Route{r} }},
		{"a negative hold", func() []deploy.Route { r := good(); r.Hold = -1; return []deploy.Route{r} }},
		{"a server without an address", func() []deploy.Route {
			r := good()
			r.Servers = []deploy.Server{{Container: "c"}}
			return []deploy.Route{r}
		}},
		{"a negative limit", func() []deploy.Route { r := good(); r.Options.MaxConnections = -1; return []deploy.Route{r} }},
		{"a rate that can't be", func() []deploy.Route { r := good(); r.Options.Rate = deploy.MaxRate + 1; return []deploy.Route{r} }},
		{"a balance that nobody knows", func() []deploy.Route { r := good(); r.Options.Balance = "random"; return []deploy.Route{r} }},
		{"the same address twice", func() []deploy.Route { return []deploy.Route{good(), good()} }},
		{"every address beside one", func() []deploy.Route {
			r := good()
			r.Key = deploy.Key{Port: 25}
			return []deploy.Route{good(), r}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := CheckTable(deploy.Table{Routes: row.table()}); err == nil {
				t.Error("it was accepted")
			}
		})
	}
	if err := CheckTable(deploy.Table{Routes: []deploy.Route{good()}}); err != nil {
		t.Error(err)
	}
}
