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

// Leaf is the certificate that clients of an app see, of the app called Owner; nil where it can't be read, of which a reconcile tells.
type Leaf struct {
	*x509.Certificate
	Owner string
}

// Leaves reads certificates, that of an app once, however many ports with TLS it has.
func (h *Host) Leaves() func(app string) Leaf {
	known := make(map[string]Leaf)
	return func(app string) Leaf {
		leaf, ok := known[app]
		if ok {
			return leaf
		}
		if values, err := h.Settings.Effective(app); err == nil {
			leaf.Owner = certificateOwner(app, values)
			_, leaf.Certificate, _ = h.certificate(leaf.Owner)
		}
		known[app] = leaf
		return leaf
	}
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
