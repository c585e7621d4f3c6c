package settings

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// NoFile is the value of a setting that is a file's where there is none.
const NoFile = "none"

func putClientCA(v *Values, text string) error {
	if v.Policy.ClientCA = ""; text == NoFile {
		return nil
	}
	authorities, err := parseCA(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, c := range authorities {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	v.Policy.ClientCA = b.String()
	return nil
}

// parseCA reads authorities of certificates in PEM, at least one. Each of them is a root, or of another one that is there: engines differ
// in what they think of others.
func parseCA(text string) ([]*x509.Certificate, error) {
	var authorities []*x509.Certificate
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the file has a %s in it: give one with certificates only", strings.ToLower(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file can't be read: %w", len(authorities)+1, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("certificate %d of the file, %s, is none of an authority: give the one that signs the clients' certificates", len(authorities)+1, c.Subject)
		}
		authorities = append(authorities, c)
	}
	if len(authorities) == 0 {
		return nil, errors.New("the file has no certificate in PEM: give that of the authority that signs the clients' certificates")
	}
	for _, c := range authorities {
		if !signedByOneOf(c, authorities) {
			return nil, fmt.Errorf("the authority %s is of another one, %s, which is not in the file: add it", c.Subject, c.Issuer)
		}
	}
	return authorities, nil
}

func signedByOneOf(c *x509.Certificate, authorities []*x509.Certificate) bool {
	for _, a := range authorities {
		if c.CheckSignatureFrom(a) == nil {
			return true
		}
	}
	return false
}

// summarizeCA is what a report says of authorities.
func summarizeCA(text string) string {
	authorities, err := parseCA(text)
	if err != nil {
		return err.Error()
	}
	var texts []string
	for _, c := range authorities {
		texts = append(texts, fmt.Sprintf("%s until %s", c.Subject, c.NotAfter.UTC().Format(time.DateOnly)))
	}
	return strings.Join(texts, ", ")
}
