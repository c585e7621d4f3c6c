package host

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dokku-expose/deploy"
)

// Certificate reads the certificate that Dokku has for an app (dokku certs:add, letsencrypt:enable). The error says why it can't be
// served, wrapping [deploy.ErrNoCertificate] where there is none.
func (h *Host) Certificate(app string) (c deploy.Certificate, leaf *x509.Certificate, err error) {
	if h.Node != "" {
		return c, nil, fmt.Errorf("there is %w on an entry host: only the Dokku host serves TLS", deploy.ErrNoCertificate)
	}
	c.Chain, c.Key = h.Env.CertificateFiles(app)
	chain, err := os.ReadFile(c.Chain)
	key, keyErr := os.ReadFile(c.Key)
	_, none := os.Stat(filepath.Dir(c.Chain))
	switch err = errors.Join(err, keyErr); {
	// While Dokku replaces the files they are not there for a moment; when it removes them, neither is their folder.
	case errors.Is(none, fs.ErrNotExist):
		return deploy.Certificate{}, nil, fmt.Errorf("it has %w for TLS; it opens when the app gets one: dokku certs:add %s CRT KEY, or dokku letsencrypt:enable %s",
			deploy.ErrNoCertificate, app, app)
	case err != nil:
		return deploy.Certificate{}, nil, fmt.Errorf("%w: %w", deploy.ErrCertificate, err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return deploy.Certificate{}, nil, fmt.Errorf("%w; give the app another one: dokku certs:add %s CRT KEY: %s with %s: %w", deploy.ErrCertificate, app, c.Chain, c.Key, err)
	}
	c.ID = fmt.Sprintf("%x", sha256.Sum256(append(chain, key...)))
	return c, pair.Leaf, nil
}
