package deploy

import "errors"

// Certificate says where an app's certificate is. The zero value is none.
type Certificate struct {
	// Chain is the file of the certificate and those that lead to its root, Key the file of its private key, both in PEM.
	Chain, Key string
	// ID is another one when anything in the files is another.
	ID string
}

// ErrNoCertificate tells that an app is to be served with TLS and has no certificate. The port stays closed until it has one.
var ErrNoCertificate = errors.New("no certificate")

// ErrCertificate tells that the certificate of an app is of no use.
var ErrCertificate = errors.New("its certificate can't be used")

// Terminates tells whether TLS is to end at any port that the app may have.
func (a App) Terminates() bool {
	return a.anyClaim(func(c Claim) bool { return c.options(a.Options).TLS == TerminateTLS })
}

// certified tells whether a draft can be served as far as its certificate goes. One that became unusable is no reason to close a port:
// the engine still has the one before.
func (b *builder) certified(d *draft) bool {
	err := d.app.CertificateErr
	if d.options.TLS != TerminateTLS || err == nil {
		return true
	}
	b.problem(d.app.Name, d.claim.Key, err)
	return b.isServed(d.app, d.claim.Key) && !errors.Is(err, ErrNoCertificate)
}
