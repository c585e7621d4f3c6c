package haproxy_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/deploy/enginetest"
	"dokku-expose/haproxy"
	"dokku-expose/haproxy/haproxytest"
	"dokku-expose/internal/testcert"
)

// Each error is one of the route alone, names the file and leaves the route with the certificate that it has.
func TestCertificatesThatAreRefused(t *testing.T) {
	h := haproxytest.Start(t)
	v1, listen, news, cert, other := enginetest.NewServer(t, "v1"), port(t), port(t), newCertificate(t), newCertificate(t)
	apply(t, h, secured(t, listen, v1, cert), route("news", news, v1))
	worker, file := status(t, h).Worker, bundle(t, h)
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		path := filepath.Join(dir, name)
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		writeFile(t, path, append(text, "\n\nnothing else\n\n"...))
		return path
	}
	weakChain, weakKey := weak(t)
	for _, row := range []struct{ name, chain, key, want string }{
		{"no chain", filepath.Join(dir, "none.crt"), cert.Key, "none.crt"},
		{"no key", cert.Chain, filepath.Join(dir, "none.key"), "none.key"},
		{"a chain without PEM", write("empty.crt"), cert.Key, "empty.crt has no certificate"},
		{"a key without PEM", cert.Chain, write("empty.key"), "empty.key has no private key"},
		{"another's key", cert.Chain, other.Key, other.Key},
		{"an encrypted key", cert.Chain, write("secret.key", &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), "secret.key is encrypted"},
		{"one encrypted as of old", cert.Chain, write("old.key", &pem.Block{
			Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("x"),
		}), "old.key is encrypted"},
		{"no certificate in the chain's PEM", write("junk.crt", &pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), cert.Key, "junk.crt"},
		{"a key that OpenSSL takes for too weak", write("weak.crt", weakChain), write("weak.key", weakKey), "weak.crt"},
	} {
		r := secured(t, listen, v1, testcert.Certificate{Chain: row.chain, Key: row.key})
		applied, err := h.Engine.Apply(t.Context(), table(r, route("news", news, v1)))
		wantRouteError(t, err, "mail", listen, row.want)
		if !errors.Is(err, deploy.ErrCertificate) || !strings.Contains(err.Error(), "certs:add mail") || applied.Reload != "" {
			t.Errorf("%s: %v, reload %q", row.name, err, applied.Reload)
		}
		if strings.Contains(err.Error(), "/dev/fd") {
			t.Errorf("%s: %v names a file of ours", row.name, err)
		}
	}
	if !bytes.Equal(pemOf(t, file), pemOf(t, cert.Chain, cert.Key)) || status(t, h).Worker != worker {
		t.Error("a refused certificate changed something")
	}
	answersTLS(t, listen, cert, "v1")
	answers(t, news, "v1")
}

// weak is a certificate with a key of 512 bits.
func weak(t *testing.T) (chain, key *pem.Block) {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	private, err := rsa.GenerateKey(rand.Reader, 512)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: certified}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}
}

// A chain that is longer than HAProxy's socket takes comes by a reload, once.
func TestLongChain(t *testing.T) {
	h := haproxytest.Start(t)
	v1, listen, first, second := enginetest.NewServer(t, "v1"), port(t), newCertificate(t), newCertificate(t)
	apply(t, h, secured(t, listen, v1, first))
	long := pemOf(t, second.Chain)
	for range 40 {
		long = append(long, pemOf(t, testcert.New(t, time.Hour, strings.Repeat("x", 60)).Chain)...)
	}
	writeFile(t, second.Chain, long)
	if applied := apply(t, h, secured(t, listen, v1, second)); !strings.Contains(applied.Reload, "new certificate of public port") {
		t.Errorf("reload: %q", applied.Reload)
	}
	if state := answersClient(t, listen, second.Client, "v1"); len(state.PeerCertificates) != 41 {
		t.Errorf("a chain of %d certificates", len(state.PeerCertificates))
	}
	if applied := apply(t, h, secured(t, listen, v1, second)); applied.Reload != "" {
		t.Errorf("one more reload: %s", applied.Reload)
	}
	if applied := apply(t, h, secured(t, listen, v1, first)); applied.Reload != "" {
		t.Errorf("reload for a short one: %s", applied.Reload)
	}
	answersTLS(t, listen, first, "v1")
}

// A bundle that can't be read or written leaves the route with its certificate, and keeps no server that is gone.
func TestBundleThatCantBeWritten(t *testing.T) {
	h := haproxytest.Start(t)
	v1, v2, listen, first, second := enginetest.NewServer(t, "v1"), enginetest.NewServer(t, "v2"), port(t), newCertificate(t), newCertificate(t)
	apply(t, h, secured(t, listen, v1, first))
	file := bundle(t, h)
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	_, err := h.Engine.Apply(t.Context(), table(secured(t, listen, v2, second)))
	wantRouteError(t, err, "mail", listen, file)
	answersTLS(t, listen, first, "v2")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	apply(t, h, secured(t, listen, v2, second))
	answersTLS(t, listen, second, "v2")
}

// A HAProxy that was built without OpenSSL serves no TLS, and is asked once for that.
func TestWithoutOpenSSL(t *testing.T) {
	asked := filepath.Join(t.TempDir(), "asked")
	program := filepath.Join(t.TempDir(), "haproxy")
	install := func(feature string) {
		t.Helper()
		writeFile(t, program+".new", fmt.Appendf(nil, "#!/bin/sh\necho >>%s\necho 'HAProxy version 2.6.12 2023/12/16'\necho 'Feature list : +EPOLL %s +PCRE2'\n", asked, feature))
		if err := errors.Join(os.Chmod(program+".new", 0o755), os.Rename(program+".new", program)); err != nil {
			t.Fatal(err)
		}
	}
	engine := haproxy.New(haproxy.Config{Binary: program})
	plain := route("mail", deploy.Key{Port: 993})
	secure, named := withOptions(t, plain, "tls=terminate"), passed(t, "mail", plain.Key, certified, &enginetest.Server{})
	install("-OPENSSL")
	for range 3 {
		for _, r := range []deploy.Route{secure, named} {
			if err := engine.Supports(r); !errors.Is(err, deploy.ErrUnsupported) || !strings.Contains(err.Error(), "without OpenSSL") {
				t.Errorf("%s: got %v, want that TLS is not supported", r.Key, err)
			}
		}
		if err := engine.Supports(plain); err != nil {
			t.Error(err)
		}
	}
	install("+OPENSSL")
	for range 3 {
		if err := errors.Join(engine.Supports(secure), engine.Supports(named)); err != nil {
			t.Error(err)
		}
	}
	if n := len(pemOf(t, asked)); n != 2 {
		t.Errorf("the program was started %d times, want once for each of two", n)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if err := engine.Supports(secure); !errors.Is(err, os.ErrNotExist) || errors.Is(err, deploy.ErrUnsupported) {
		t.Errorf("got %v, want that there is no program", err)
	}
	if err := haproxy.New(haproxy.Config{Binary: "/bin/false"}).Supports(secure); err == nil || errors.Is(err, deploy.ErrUnsupported) {
		t.Errorf("got %v, want that the program fails", err)
	}
}
