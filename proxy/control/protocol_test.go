package control

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"dokku-expose/deploy"
	"dokku-expose/proxy/proxytest"
)

// What the decoder accepts can be applied as it is, and reads the same again.
func FuzzDecodeRequest(f *testing.F) {
	for _, seed := range []string{
		`{"protocol":1,"call":"status"}`,
		`{"protocol":1,"call":"apply","table":{"Routes":null}}`,
		`{"protocol":1,"call":"apply","table":{"Routes":[{"App":"mail","Process":"web","Listen":{"IP":"","Port":25},"Servers":[{"Container":"c","Dyno":"web.1","Addr":"172.17.0.2:5025","Proven":true}],"Hold":10000000000,"HealthCheck":2000000000,"CutOld":0}]}}`,
		`{"protocol":1,"call":"apply","table":{"Routes":[{"App":"mail","Listen":{"IP":"::1","Port":25}},{"App":"news","Listen":{"IP":"::","Port":25}}]}}`,
		`{"protocol":1,"call":"apply","table":{"Routes":[{"App":"mail","Listen":{"Port":25},"Options":{"Allow":"10.0.0.0/8","Rate":20,"Balance":"source"}}],"TotalConnections":9}}`,
		`{"protocol":2}`, `{"protocol":1,"call":"apply"}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ours().decode(line)
		if err != nil {
			return
		}
		if r.Protocol < 1 || r.Protocol > ours().version {
			t.Errorf("protocol %d was accepted", r.Protocol)
		}
		if r.Call == callApply {
			for _, route := range r.Table.Routes {
				if route.App == "" || route.Key.Port == 0 {
					t.Errorf("route %+v was accepted", route)
				}
			}
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ours().decode(text)
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v reads as %+v, %v", r, again, err)
		}
	})
}

// A daemon that knows no options refuses what it does not know. Of a table without options it must not have to.
func TestWhatIsNotAskedForIsNotSaid(t *testing.T) {
	text, err := json.Marshal(request{Call: callApply, Table: &deploy.Table{Routes: []deploy.Route{proxytest.RouteTo("mail", 25)}}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "Options") || strings.Contains(string(text), "Total") {
		t.Errorf("got %s", text)
	}
	text, err = json.Marshal(deploy.Options{Rate: 20})
	if err != nil || string(text) != `{"Rate":20}` {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestErrorsComeThrough(t *testing.T) {
	listen := deploy.Key{Port: 25}
	one := &deploy.RouteError{App: "mail", Key: listen, Err: errors.New("taken")}
	r := appliedResponse(deploy.Applied{Switched: []deploy.Key{listen}}, errors.Join(one, errors.Join(one)))
	if r.Error != "" || len(r.Failed) != 2 || r.errors().Error() != errors.Join(one, one).Error() {
		t.Errorf("got %+v", r)
	}
	if r := appliedResponse(deploy.Applied{}, errors.Join(one, errors.New("all is lost"))); r.Error != "all is lost" {
		t.Errorf("got %+v", r)
	}
}

// The handover of a daemon of version 1 is understood: an update ends no connection.
func TestHandoverOfVersion1(t *testing.T) {
	const answer = `{"protocol":1,"version":"0.1.0","handover":{"table":{"Routes":[` +
		`{"App":"mail","Process":"web","Listen":{"IP":"","Port":25},"Servers":[{"Container":"c","Dyno":"web.1","Addr":"172.17.0.2:5025","Proven":true}],"Hold":1,"HealthCheck":2,"CutOld":0},` +
		`{"App":"news","Listen":{"IP":"::1","Port":119},"Servers":null,"Hold":0,"HealthCheck":0,"CutOld":0}]},"predecessors":1}}`
	var r response
	if err := json.Unmarshal([]byte(answer), &r); err != nil {
		t.Fatal(err)
	}
	routes := r.Handover.Table.Routes
	if len(routes) != 2 || routes[0].Key.String() != "25" || len(routes[0].Servers) != 1 || routes[1].Key.String() != "[::1]:119" {
		t.Errorf("got %+v", routes)
	}
	for _, call := range []string{callHandover, callHanded, callFollow, callEnd} {
		if ours().since[call] != 1 {
			t.Errorf("%s can't be asked of it", call)
		}
	}
}
