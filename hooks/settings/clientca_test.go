package settings

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// signed is a certificate in PEM, by an authority that is nil for itself.
func signed(t *testing.T, name string, authority bool, by *x509.Certificate, byKey *ecdsa.PrivateKey) (string, *x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: authority, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC),
	}
	if by == nil {
		by, byKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), made, key
}

func TestClientCA(t *testing.T) {
	root, rootCA, rootKey := signed(t, "root", true, nil, nil)
	other, _, _ := signed(t, "other", true, nil, nil)
	between, _, _ := signed(t, "between", true, rootCA, rootKey)
	client, _, _ := signed(t, "client", false, rootCA, rootKey)
	for name, row := range map[string]struct{ text, want, wrong string }{
		"none":                       {"none", "", ""},
		"a root":                     {root, root, ""},
		"what people write above it": {"Certificate:\n    Data:\n" + root, root, ""},
		"several":                    {root + "\n" + other, root + other, ""},
		"one of another's":           {between + root, between + root, ""},
		"one of another's alone":     {between, "", "is of another one, CN=root"},
		"a client's own":             {root + client, "", "certificate 2 of the file, CN=client, is none of an authority"},
		"a key":                      {root + "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "", "private key"},
		"garbage":                    {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", "certificate 1 of the file can't be read"},
		"a path":                     {"/etc/ssl/ca.pem", "", "no certificate in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{Dir: t.TempDir()}
			err := s.Set("mail", "client-ca", row.text)
			if row.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), row.wrong) {
					t.Fatalf("got %v, want %s", err, row.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			v, err := s.Effective("mail")
			if err != nil || v.Policy.ClientCA != row.want {
				t.Errorf("got %q, %v, want %q", v.Policy.ClientCA, err, row.want)
			}
			// An app that says nothing of its own has the host's, and may have none.
			if err := s.Set(Global, "client-ca", root); err != nil {
				t.Fatal(err)
			}
			if v, err := s.Effective("news"); err != nil || v.Policy.ClientCA != root {
				t.Errorf("another app has %q, %v", v.Policy.ClientCA, err)
			}
			if v, err := s.Effective("mail"); err != nil || v.Policy.ClientCA != row.want {
				t.Errorf("beside the host's it has %q, %v", v.Policy.ClientCA, err)
			}
		})
	}
	key, _ := findKey("client-ca")
	if got, want := key.Show(root+other), "CN=root until 2099-12-31, CN=other until 2099-12-31"; got != want {
		t.Errorf("a report shows %q, want %q", got, want)
	}
	if got := key.Show("none"); got != "none" {
		t.Errorf("a report shows %q of none", got)
	}
}
