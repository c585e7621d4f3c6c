// Package wait is for tests of what runs beside them: conditions that are awaited, and logs that are read while they are written.
package wait

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come, on a machine with much else to do. How long it takes is not judged.
const Patience = 2 * time.Minute

// Until asks until the answer is true; what completes the sentence "waited in vain until".
func Until(t testing.TB, what string, ask func() bool) {
	t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// Buffer is a bytes.Buffer that may be written and read at the same time. The zero value is empty and ready for use.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
