package tls

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
)

// hello is what a client says first.
func hello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	here, there := net.Pipe()
	failed := make(chan error, 1)
	go func() { failed <- tls.Client(here, config).Handshake() }()
	var said []byte
	for buffer := make([]byte, 64<<10); ; {
		n, err := there.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, buffer[:n]...)
		if complete, err := hasHello(said); err != nil {
			t.Fatal(err)
		} else if complete {
			break
		}
	}
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	if <-failed == nil {
		t.Fatal("a handshake without a server")
	}
	return said
}

// inRecords is what was said, in records of at most n bytes each.
func inRecords(said []byte, n int) (split []byte) {
	for some := range slices.Chunk(said[recordHeader:], n) {
		split = append(split, said[0], said[1], said[2], byte(len(some)>>8), byte(len(some)))
		split = append(split, some...)
	}
	return split
}

func TestServerName(t *testing.T) {
	plain := hello(t, &tls.Config{ServerName: "Mail.example.com"})
	for name, row := range map[string]struct {
		said []byte
		want string
	}{
		"a name":             {plain, "mail.example.com"},
		"no name":            {hello(t, &tls.Config{InsecureSkipVerify: true}), ""},
		"TLS 1.1":            {hello(t, &tls.Config{ServerName: "old.example.com", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), "old.example.com"},
		"many protocols":     {hello(t, &tls.Config{ServerName: "big.example.com", NextProtos: slices.Repeat([]string{strings.Repeat("x", 250)}, 64)}), "big.example.com"},
		"records of a byte":  {inRecords(plain, 1), "mail.example.com"},
		"records of some":    {inRecords(plain, 100), "mail.example.com"},
		"with what comes on": {append(slices.Clone(plain), "and more"...), "mail.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, complete, err := ServerName(row.said); got != row.want || !complete || err != nil {
				t.Errorf("got %q, %v, %v, want %q", got, complete, err, row.want)
			}
			for n := range len(row.said) {
				got, complete, err := ServerName(row.said[:n])
				if err != nil || complete && got != row.want || !complete && got != "" {
					t.Fatalf("of the first %d bytes: %q, %v, %v", n, got, complete, err)
				}
			}
		})
	}
	dotted := []byte(strings.Replace(string(plain), "Mail.example.com", "Mail.example.co.", 1))
	for name, said := range map[string][]byte{
		"a dot at the end": dotted, "plain text": []byte("EHLO mail.example.com\r\n"), "an answer": {HandshakeRecord, 3, 1, 0, 4, 2, 0, 0, 0},
		"SSL 2": {0x80, 0x2e, 1, 3, 1}, "an alert": {21, 3, 1, 0, 2, 1, 0}, "a record of nothing": {HandshakeRecord, 3, 1, 0, 0},
		"no ClientHello in it": append([]byte{HandshakeRecord, 3, 1, 0, 5, clientHello, 0, 0, 1}, 0),
	} {
		if got, complete, err := ServerName(said); err == nil || complete || got != "" {
			t.Errorf("%s: got %q, %v, %v, want an error", name, got, complete, err)
		}
	}
}

// FuzzClientHello shows that nothing which a client says is more than a name, an error, or not enough; and that what comes later does not
// make another name of it.
func FuzzClientHello(f *testing.F) {
	said := hello(f, &tls.Config{ServerName: "mail.example.com"})
	for _, seed := range [][]byte{said, inRecords(said, 7), said[:40], []byte("EHLO"), {HandshakeRecord}, nil} {
		f.Add(seed, []byte("more"))
	}
	f.Fuzz(func(t *testing.T, said, more []byte) {
		name, complete, err := ServerName(said)
		if (name != "" || complete) && err != nil || name != strings.ToLower(name) || len(name) > len(said) {
			t.Fatalf("got %q, %v, %v", name, complete, err)
		}
		later, still, laterErr := ServerName(slices.Concat(said, more))
		if complete && (later != name || !still || laterErr != nil) || err != nil && laterErr == nil {
			t.Errorf("with more it is %q, %v, %v, and was %q, %v, %v", later, still, laterErr, name, complete, err)
		}
	})
}
