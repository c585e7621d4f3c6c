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
	"dokku-expose/hooks/settings"
)

// certificateOwner is the app whose certificate another one's clients see.
func certificateOwner(app string, values settings.Values) string {
	if values.Certificate == settings.OwnCertificate {
		return app
	}
	return values.Certificate
}

// Shows tells whether clients of an app see the certificate of owner.
func (h *Host) Shows(a deploy.App, owner string) (bool, error) {
	if !a.Terminates() {
		return false, nil
	}
	values, err := h.Settings.Effective(a.Name)
	return certificateOwner(a.Name, values) == owner, err
}

// Leaf reads the certificate that clients of an app see, of the app called owner.
func (h *Host) Leaf(app string) (leaf *x509.Certificate, owner string, err error) {
	values, err := h.Settings.Effective(app)
	if err != nil {
		return nil, "", err
	}
	owner = certificateOwner(app, values)
	_, leaf, err = h.certificate(owner)
	return leaf, owner, err
}

// certificate reads the certificate that Dokku has for an app (dokku certs:add, letsencrypt:enable). The error says why it can't be
// served, wrapping [deploy.ErrNoCertificate] where there is none.
func (h *Host) certificate(app string) (c deploy.Certificate, leaf *x509.Certificate, err error) {
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
		return deploy.Certificate{}, nil, fmt.Errorf("it has %w for TLS; it opens when %s gets one: dokku certs:add %s CRT KEY, or dokku letsencrypt:enable %s",
			deploy.ErrNoCertificate, app, app, app)
	case err != nil:
		return deploy.Certificate{}, nil, fmt.Errorf("%w: %w", deploy.ErrCertificate, err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return deploy.Certificate{}, nil, fmt.Errorf("%w; give %s another one: dokku certs:add %s CRT KEY: %s with %s: %w", deploy.ErrCertificate, app, app, c.Chain, c.Key, err)
	}
	c.ID = fmt.Sprintf("%x", sha256.Sum256(append(chain, key...)))
	return c, pair.Leaf, nil
}
