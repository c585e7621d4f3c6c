// Package testcert makes certificates for tests.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate is its own root, so that a client that trusts it trusts no other.
type Certificate struct {
	// Chain and Key are its files, in PEM.
	Chain, Key string
	// Client is the configuration of a client that trusts it.
	Client *tls.Config
	leaf   *x509.Certificate
}

// Clients is the configuration of clients that trust any of some certificates for the same name.
func Clients(some ...Certificate) *tls.Config {
	c := some[0].Client.Clone()
	c.RootCAs = x509.NewCertPool()
	for _, s := range some {
		c.RootCAs.AddCert(s.leaf)
	}
	return c
}

// New makes a certificate for names, or addresses, that ends after a while, and its files.
func New(t testing.TB, valid time.Duration, names ...string) Certificate {
	t.Helper()
	c, err := Make(t.TempDir(), valid, names...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Make is New for what is no test, with the files in the folder dir.
func Make(dir string, valid time.Duration, names ...string) (Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(min(0, valid) - time.Hour), NotAfter: now.Add(valid),
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Certificate{}, err
	}
	c := Certificate{
		Chain: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key"),
		Client: &tls.Config{ServerName: names[0]}, leaf: leaf,
	}
	c.Client = Clients(c)
	return c, errors.Join(
		os.WriteFile(c.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(c.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
}
