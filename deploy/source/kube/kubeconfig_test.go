package kube

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dokku-expose/internal/kubetest"
)

// write is a kubeconfig with a context "c" of a cluster and a user, and files beside it.
func write(t *testing.T, cluster, user string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["kubeconfig"] = "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {" + cluster + "}}]\nusers: [{name: u, user: {" + user + "}}]\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "kubeconfig")
}

func TestKubeconfigs(t *testing.T) {
	api := kubetest.New(t)
	certificate, key := api.ClientCertificate()
	files := func() map[string]string {
		return map[string]string{
			"ca.crt": string(api.CA()), "client.crt": string(certificate), "client.key": string(key), "token": api.Token + "\n", "wrong": "wrong", "empty": "",
		}
	}
	trusted := "server: " + api.URL() + ", certificate-authority: ca.crt"
	byToken := "token: " + api.Token
	named := func(name string) string { return strings.Replace(api.URL(), "127.0.0.1", name, 1) }
	for _, row := range []struct {
		name, cluster, user string
		// fails is a part of the error of New or of a question, "" for none.
		fails string
	}{
		{"files beside it", trusted, "client-certificate: client.crt, client-key: client.key", ""},
		{"data", "server: " + api.URL() + ", certificate-authority-data: " + base64.StdEncoding.EncodeToString(api.CA()),
			"client-certificate-data: " + base64.StdEncoding.EncodeToString(certificate) + ", client-key-data: " + base64.StdEncoding.EncodeToString(key), ""},
		{"data before a file", trusted + ", certificate-authority-data: " + base64.StdEncoding.EncodeToString([]byte("x")), byToken, "no certificate in PEM format"},
		{"a token", trusted, byToken, ""},
		{"a file with a token", trusted, "tokenFile: token, token: wrong", ""},
		{"name and password", trusted, "username: admin, password: " + api.Password, ""},
		{"no verification", "server: " + api.URL() + ", insecure-skip-tls-verify: true", byToken, ""},
		{"another name of the server", trusted + ", tls-server-name: example.com", byToken, ""},
		{"a slash at the end", "certificate-authority: ca.crt, server: " + api.URL() + "/", byToken, ""},
		{"a field that nobody knows", trusted + ", extensions: [{name: x}]", byToken, ""},

		{"the server has another name", trusted + ", tls-server-name: example.net", byToken, "can't be trusted"},
		{"an unknown authority", "server: " + api.URL(), byToken, "can't be trusted"},
		{"the wrong token", trusted, "token: wrong", `does not accept the credentials of user "u" (context "c")`},
		{"the wrong password", trusted, "username: admin, password: wrong", "does not accept"},
		{"nobody", trusted, "", "does not accept"},
		{"no server", "certificate-authority: ca.crt", byToken, `cluster "k": its server "" is no address`},
		{"a server without a scheme", "server: " + strings.TrimPrefix(api.URL(), "https://"), byToken, "is no address"},
		{"a server of another scheme", "server: " + strings.Replace(api.URL(), "https", "ftp", 1), byToken, "is no address"},
		{"a host that is unknown", "certificate-authority: ca.crt, server: " + named("kubernetes.invalid"), byToken, ErrUnreachable.Error()},
		{"no file of the authority", "server: " + api.URL() + ", certificate-authority: missing.crt", byToken, "missing.crt"},
		{"no certificate of the authority", "server: " + api.URL() + ", certificate-authority: empty", byToken, "no certificate in PEM format"},
		{"no base64", trusted, "client-certificate-data: '%', client-key: client.key", "client-certificate-data is no base64"},
		{"a certificate without a key", trusted, "client-certificate: client.crt", "make no pair"},
		{"a key without a certificate", trusted, "client-key: client.key", "make no pair"},
		{"no file of the key", trusted, "client-certificate: client.crt, client-key: missing.key", "missing.key"},
		{"no file of the token", trusted, "tokenFile: missing", "missing"},
		{"exec", trusted, "exec: {command: aws}", `user "u" (context "c"): "exec" is not supported`},
		{"auth-provider", trusted, "auth-provider: {name: gcp}", `"auth-provider" is not supported`},
		{"as", trusted, "as: somebody", `"as" is not supported`},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := write(t, row.cluster, row.user, files())
			c, err := New(Config{Kubeconfig: file, Namespace: inDefault})
			if err == nil {
				_, err = c.Endpoints(t.Context())
			}
			switch {
			case row.fails == "" && err != nil:
				t.Error(err)
			case row.fails != "" && (err == nil || !strings.Contains(err.Error(), row.fails) || !strings.Contains(err.Error(), file)):
				t.Errorf("got %v, want %q of %s", err, row.fails, file)
			}
		})
	}
}

func TestKubeconfigsThatCannotBeUsed(t *testing.T) {
	api := kubetest.New(t)
	path := api.Kubeconfig(t)
	dir := t.TempDir()
	for _, row := range []struct{ name, text, context, part string }{
		{"unknown context", "", "other", `no context "other", only ["certificate" "token" "basic" "nobody"]`},
		{"no current context", "contexts: [{name: a}]", "", `no context "", only ["a"]: correct its current-context`},
		{"unknown cluster", "contexts: [{name: a, context: {cluster: b}}]", "a", `no cluster "b", which its context "a" names`},
		{"unknown user", "contexts: [{name: a, context: {cluster: b, user: x}}]\nclusters: [{name: b, cluster: {server: 'https://127.0.0.1:1'}}]", "a", `no user "x" (context "a")`},
		{"no YAML", "{", "", "no YAML of a kubeconfig"},
		{"another YAML", "contexts: hello", "", "no YAML of a kubeconfig"},
		{"empty", " ", "", `no context ""`},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := path
			if row.text != "" {
				file = filepath.Join(dir, "kubeconfig")
				if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := New(Config{Kubeconfig: file, Context: row.context, Namespace: inDefault})
			if err == nil || !strings.Contains(err.Error(), row.part) || !strings.Contains(err.Error(), file) || errors.Is(err, ErrUnreachable) {
				t.Errorf("got %v, want %q of %s", err, row.part, file)
			}
		})
	}
	missing := filepath.Join(dir, "missing")
	if _, err := New(Config{Kubeconfig: missing, Namespace: inDefault}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "kubeconfig-path") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := New(Config{Kubeconfig: dir, Namespace: inDefault}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder: %v", err)
	}
}

func TestAnonymous(t *testing.T) {
	api := kubetest.New(t)
	file := api.Kubeconfig(t)
	edit(t, file, "    user: nobody\n", "")
	c, err := New(Config{Kubeconfig: file, Context: "nobody", Namespace: inDefault})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Endpoints(t.Context()); err == nil || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("got %v", err)
	}
}

// k3s writes its file anew when it rotates its certificates, and the daemon outlives that.
func TestRotation(t *testing.T) {
	api := kubetest.New(t)
	c := newClient(t, api, "")
	works := func(when string) {
		t.Helper()
		if _, err := c.Endpoints(t.Context()); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	works("at first")
	first := c.current
	api.RotateCertificate()
	if _, err := c.Endpoints(t.Context()); err == nil || !strings.Contains(err.Error(), "renew") {
		t.Fatalf("with the old certificate: %v", err)
	}
	api.WriteKubeconfig(t, c.config.Kubeconfig)
	works("the file is written anew in its place")
	if c.current == first {
		t.Fatal("it is the old session")
	}
	// The same content, at another time.
	second := c.current
	if err := os.Chtimes(c.config.Kubeconfig, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	works("the file is touched")
	if c.current != second {
		t.Error("its connections are given up for nothing")
	}
	api.RotateCertificate()
	api.WriteKubeconfig(t, c.config.Kubeconfig+".new")
	if err := os.Rename(c.config.Kubeconfig+".new", c.config.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	works("the file is replaced")
	if err := os.Remove(c.config.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Endpoints(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is gone: %v", err)
	}
	api.WriteKubeconfig(t, c.config.Kubeconfig)
	works("the file is back")
}

// The files that a kubeconfig names change as well, also such that only one of their facts tells it.
func TestTokenIsRotated(t *testing.T) {
	api := kubetest.New(t)
	file := write(t, "server: "+api.URL()+", certificate-authority: ca.crt", "tokenFile: token", map[string]string{"ca.crt": string(api.CA()), "token": api.Token})
	c, err := New(Config{Kubeconfig: file, Namespace: inDefault})
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(filepath.Dir(file), "token")
	write := func(path string, at time.Time) {
		if err := os.WriteFile(path, []byte(api.Token), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Unix(1e9, 0)
	for _, step := range []struct {
		name, token string
		change      func()
	}{
		{"at another time", "token-0", func() { write(token, then) }},
		{"with another size", "token-01", func() { write(token, then) }},
		{"as another file", "token-02", func() {
			write(token+".new", then)
			if err := os.Rename(token+".new", token); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		api.Token = step.token
		if _, err := c.Endpoints(t.Context()); err == nil || !strings.Contains(err.Error(), "credentials") {
			t.Fatalf("with the old token: %v", err)
		}
		step.change()
		if _, err := c.Endpoints(t.Context()); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}
