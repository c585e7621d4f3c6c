package haproxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1" // HAProxy tells certificates apart by it
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dokku-expose/deploy"
)

// A route with TLS has a bundle: a file beside the configuration with its certificate, the chain and the key. Bundles are no part of the
// configuration's own changes. HAProxy has tried a bundle before it is written, and it is written before it is in force, so that a start
// and a reload by anybody load the newest one.

const (
	bundlePrefix = "tls-"
	// inChild is the first file that a child inherits.
	inChild = "/dev/fd/3"
	// certificatesAtOnce is how many certificates are asked for in one exchange, so that the line stays below maxLine.
	certificatesAtOnce = 50
)

func secure(r deploy.Route) bool { return r.Options.TLS == deploy.TerminateTLS }

// bundleFile is the path of a proxy's bundle. The name is a hash, because an app's may be too long for a file.
func (e *Engine) bundleFile(proxy string) string {
	sum := sha256.Sum256([]byte(proxy))
	return filepath.Join(filepath.Dir(e.cfg.ConfigFile), fmt.Sprintf("%s%x.pem", bundlePrefix, sum[:16]))
}

// tlsWords are what a bind says of TLS, "" where it does not end here.
func (e *Engine) tlsWords(p proxy) string {
	if !secure(p.route) {
		return ""
	}
	words := " ssl crt " + quote(e.bundleFile(p.name))
	if p.route.ClientCA != "" {
		words += " verify required ca-file " + quote(e.caFile(p.route.ClientCA))
	}
	if protocols := p.route.Options.ALPN.Protocols(); protocols != nil {
		words += " alpn " + strings.Join(protocols, ",")
	}
	return words
}

// caFile is the path of a file with authorities of clients' certificates. Others are in another file, so that they are a change of the
// configuration.
func (e *Engine) caFile(authorities string) string {
	sum := sha256.Sum256([]byte(authorities))
	return filepath.Join(filepath.Dir(e.cfg.ConfigFile), fmt.Sprintf("%sca-%x.pem", bundlePrefix, sum[:16]))
}

// writeCA writes the authorities of a route's clients, if there are any, before a configuration names their file.
func (e *Engine) writeCA(r deploy.Route) error {
	if r.ClientCA == "" {
		return nil
	}
	path := e.caFile(r.ClientCA)
	if text, err := os.ReadFile(path); err == nil && string(text) == r.ClientCA {
		return nil
	}
	if err := e.replace(path, []byte(r.ClientCA)); err != nil {
		return fmt.Errorf("HAProxy's authorities of clients: %w", err)
	}
	return nil
}

// certify brings the certificates of routes into force, in their files and in the running worker. It returns the routes that have one or
// need none. A route whose new certificate is refused goes on with the one that it has.
func (e *Engine) certify(ctx context.Context, routes []deploy.Route, live *snapshot) (good []deploy.Route, refused []*deploy.RouteError, err error) {
	var files []string
	for _, r := range routes {
		if secure(r) {
			files = append(files, e.bundleFile(proxyName(r.App, r.Key)))
		}
	}
	if len(files) == 0 {
		return routes, nil, nil
	}
	if live.pid != 0 {
		if err := e.readCertificates(ctx, live, files); err != nil {
			return nil, nil, err
		}
	}
	for _, r := range routes {
		if !secure(r) {
			good = append(good, r)
			continue
		}
		if err := e.writeCA(r); err != nil {
			return nil, nil, err
		}
		has, why, err := e.certifyRoute(ctx, r, live)
		if err != nil {
			return nil, nil, err
		}
		if why != nil {
			refused = append(refused, &deploy.RouteError{App: r.App, Key: r.Key, Err: why})
		}
		if has {
			good = append(good, r)
		}
	}
	return good, refused, nil
}

// certifyRoute is certify for one route. It tells whether the route has a certificate, and why that is not the one it should be.
func (e *Engine) certifyRoute(ctx context.Context, r deploy.Route, live *snapshot) (has bool, why, err error) {
	file := e.bundleFile(proxyName(r.App, r.Key))
	running, runs := live.certificates[file]
	now, failed := os.ReadFile(file)
	if failed != nil && !errors.Is(failed, fs.ErrNotExist) {
		return runs, fmt.Errorf("HAProxy's certificate: %w", failed), nil
	}
	next := now
	if r.Certificate != (deploy.Certificate{}) {
		if next, why = e.bundle(ctx, r.Certificate, now); why != nil {
			next, why = now, fmt.Errorf("%w; give the app another one: dokku certs:add %s CRT KEY: %w", deploy.ErrCertificate, r.App, why)
		}
	}
	if len(next) == 0 {
		return false, cmp.Or(why, fmt.Errorf("it has %w for TLS; give the app one: dokku certs:add %s CRT KEY", deploy.ErrNoCertificate, r.App)), nil
	}
	// HAProxy's transaction begins before the file is written, and ends when the certificate is in force. One that was left tells that this
	// was interrupted, even when only the chain changed, which the fingerprint does not show.
	swap := runs && (running != fingerprint(next) || !bytes.Equal(next, now))
	begun := false
	if swap {
		if begun, err = e.beginSwap(ctx, live, file, next); err != nil {
			return false, nil, err
		}
	}
	if !bytes.Equal(next, now) {
		if failed := e.replace(file, next); failed != nil {
			return len(now) > 0, errors.Join(why, failed), nil
		}
	}
	if begun {
		if begun, err = e.commitSwap(ctx, live, file); err != nil {
			return false, nil, err
		}
	}
	if swap && !begun {
		// A long chain exceeds the buffer of HAProxy's socket. A new worker loads it from the file.
		live.outdated = fmt.Sprintf("new certificate of public port %s of %s", r.Key, r.App)
	}
	return true, why, nil
}

// beginSwap gives the running worker a bundle that it does not show yet. It ends the transaction that somebody has left, since HAProxy has
// one at a time.
func (e *Engine) beginSwap(ctx context.Context, live *snapshot, file string, text []byte) (begun bool, err error) {
	if live.transaction != "" {
		if _, err := e.command(ctx, "abort ssl cert "+cliWord.Replace(live.transaction)); err != nil {
			return false, err
		}
	}
	live.transaction = file
	answer, err := e.command(ctx, fmt.Sprintf("set ssl cert %s <<\n%s\n", cliWord.Replace(file), text))
	return strings.Contains(answer, "Transaction created"), err
}

// commitSwap has the running worker show the bundle to new clients.
func (e *Engine) commitSwap(ctx context.Context, live *snapshot, file string) (done bool, err error) {
	answer, err := e.command(ctx, "commit ssl cert "+cliWord.Replace(file))
	if done = strings.Contains(answer, "Success!"); done {
		live.transaction = ""
	}
	return done, err
}

// cliWord makes one word of HAProxy's command language.
var cliWord = strings.NewReplacer(`\`, `\\`, " ", `\ `, ";", `\;`)

// readCertificates asks the running worker which of the files it has loaded, and whether a transaction has been left.
func (e *Engine) readCertificates(ctx context.Context, live *snapshot, files []string) error {
	live.certificates = make(map[string]string)
	for some := range slices.Chunk(files, certificatesAtOnce) {
		commands := "show ssl cert"
		for _, file := range some {
			commands += ";show ssl cert " + cliWord.Replace(file)
		}
		text, err := e.command(ctx, commands)
		if err != nil {
			return err
		}
		var file string
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if name, ok := strings.CutPrefix(line, "*"); ok {
				live.transaction = name
			}
			switch key, value, _ := strings.Cut(line, ": "); key {
			case "Filename":
				file = value
			case "SHA1 FingerPrint":
				live.certificates[file] = value
			}
		}
	}
	if _, loaded := live.certificates[live.transaction]; loaded {
		live.certificates[live.transaction] = ""
	}
	return nil
}

// fingerprint is how HAProxy names the certificate of a bundle.
func fingerprint(bundle []byte) string {
	block, _ := pem.Decode(bundle)
	if block == nil {
		return ""
	}
	return fmt.Sprintf("%X", sha1.Sum(block.Bytes))
}

// bundle makes a bundle of an app's files, which HAProxy has tried unless it is the one that there is now. It leaves out all but PEM, since
// a command of HAProxy ends at an empty line.
func (e *Engine) bundle(ctx context.Context, c deploy.Certificate, now []byte) ([]byte, error) {
	chain, err := readPEM(c.Chain, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	key, err := readPEM(c.Key, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	text := slices.Concat(chain, key)
	if bytes.Equal(text, now) {
		return text, nil
	}
	why, err := e.try(ctx, text)
	if err == nil && why != "" {
		err = fmt.Errorf("HAProxy refuses %s with %s: %s", c.Chain, c.Key, strings.ReplaceAll(why, inChild, c.Chain))
	}
	return text, err
}

// readPEM returns the parts of a file whose type ends with kind.
func readPEM(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var parts []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, kind) {
			continue
		}
		// HAProxy would ask a terminal for the password.
		if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("the key in %s is encrypted", path)
		}
		parts = append(parts, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("%s has no %s in PEM", path, strings.ToLower(kind))
	}
	return parts, nil
}

// try has HAProxy load a bundle, from memory: one that is refused is never in a file. It returns why it is refused, "" when it is not.
func (e *Engine) try(ctx context.Context, bundle []byte) (why string, err error) {
	fd, err := unix.MemfdCreate("certificate", unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("memory for a certificate: %w", err)
	}
	file := os.NewFile(uintptr(fd), "certificate")
	defer file.Close()
	if _, err := file.Write(bundle); err != nil {
		return "", fmt.Errorf("memory for a certificate: %w", err)
	}
	messages, err := e.check(ctx, []byte("listen certificate\n    mode tcp\n    bind 127.0.0.1:1 ssl crt "+inChild+"\n"), file)
	for line := range strings.Lines(messages) {
		// The last part says what is wrong: "config : parsing [/dev/stdin:3] : 'bind 127.0.0.1:1' in section 'listen' : unable to ...".
		if m := alert.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			return m[1][strings.LastIndex(m[1], ": ")+2:], err
		}
	}
	return messages, err
}

// removeBundles removes the bundles that none of the proxies has. One that can't be removed is tried again by the next Apply.
func (e *Engine) removeBundles(proxies []proxy) {
	dir := filepath.Dir(e.cfg.ConfigFile)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	used := make(map[string]bool)
	for _, p := range proxies {
		if secure(p.route) {
			used[e.bundleFile(p.name)], used[e.caFile(p.route.ClientCA)] = true, true
		}
		if p.named {
			used[e.bundleFile(alertFrontend)] = true
		}
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		// Temporary files of an Apply that was killed begin with a dot.
		if strings.HasPrefix(strings.TrimPrefix(entry.Name(), "."), bundlePrefix) && !used[path] {
			_ = os.Remove(path)
		}
	}
}
