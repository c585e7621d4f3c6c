package kube

import "testing"

// The tag of a pod's image is what Dokku deployed it with, whatever the registry is called.
func TestTagOf(t *testing.T) {
	for name, want := range map[string]string{
		"dokku/mail:3": "3",
		"registry.example.com:5000/dokku/mail:12":        "12",
		"registry.example.com:5000/dokku/mail":           "latest",
		"registry.example.com:5000/mail:7@sha256:abcdef": "7",
		"mail@sha256:abcdef":                             "latest",
	} {
		if got := tagOf(name); got != Tag(want) || !IsTag(got) {
			t.Errorf("%s: got %q, want %q", name, got, Tag(want))
		}
	}
	if IsTag("sha256:abcdef") || IsTag("") {
		t.Error("a container's image is taken for a pod's")
	}
}
