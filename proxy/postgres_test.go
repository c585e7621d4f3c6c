package proxy

import "testing"

// FuzzOpening shows that a client's first bytes are one thing, or none, whatever comes behind them, and that of a question nothing behind
// it is taken.
func FuzzOpening(f *testing.F) {
	for _, seed := range []string{
		"", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x00\x00\x00\x08\x04\xd2\x16\x30", "\x00\x00\x00\x10\x04\xd2\x16\x2e12345678", "\x16\x03\x01",
		"\x00\x00\x00\x11\x00\x03\x00\x00user\x00me\x00\x00", "EHLO", "\x00\x00\x00\x04", "\x00\x00\x00\x08\x04\xd2\x16\x2f\x16",
	} {
		f.Add([]byte(seed), []byte("x"))
	}
	f.Fuzz(func(t *testing.T, said, more []byte) {
		o, length, err := parseOpening(said)
		if err != nil && (o != unread || length != 0) || (o == asksTLS || o == asksGSS) != (length == openingHeader) || length > len(said) {
			t.Fatalf("got %d, %d, %v", o, length, err)
		}
		later, _, laterErr := parseOpening(append(append([]byte(nil), said...), more...))
		switch {
		case err != nil:
			if laterErr == nil {
				t.Errorf("with more it is %d", later)
			}
		case length > 0 && len(more) > 0:
			if laterErr == nil {
				t.Errorf("a question with more behind it is %d", later)
			}
		case o != unread && later != o:
			t.Errorf("with more it is %d, %v, and was %d", later, laterErr, o)
		}
	})
}
