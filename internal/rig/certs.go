package rig

import (
	"os"
	"path/filepath"
)

// AddCertificate is certs:add, with the files of the certificate and of its key.
func (h *Host) AddCertificate(app, chain, key string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		dir := s.certificates(app)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
		for name, from := range map[string]string{"server.crt": chain, "server.key": key} {
			text, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o640); err != nil {
				return err
			}
		}
		return s.trigger("post-certs-update", app)
	})
}

// RemoveCertificate is certs:remove.
func (h *Host) RemoveCertificate(app string, opts ...Option) error {
	return h.do(opts, func(s *session) error {
		if err := os.RemoveAll(s.certificates(app)); err != nil {
			return err
		}
		return s.trigger("post-certs-remove", app)
	})
}

func (h *Host) certificates(app string) string { return filepath.Join(h.Root, app, "tls") }
