// Package browser opens pages in a real Chromium, for tests of what people see.
package browser

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"dokku-expose/internal/need"
)

// patience bounds what should take a second.
const patience = 60 * time.Second

// screenshotsVariable names a folder that gets what [Browser.Screenshot] shows.
const screenshotsVariable = "DOKKU_EXPOSE_SCREENSHOTS"

// Browser is one window of a Chromium that knows nothing from before.
type Browser struct {
	t   testing.TB
	ctx context.Context
}

// New starts a Chromium that ends with the test. Without one the test is skipped.
func New(t testing.TB) *Browser {
	t.Helper()
	need.Program(t, "chromium", "chromium")
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	var command *exec.Cmd
	t.Cleanup(func() { remove(t, dir, command) })
	ctx, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath("chromium"),
		chromedp.UserDataDir(dir),
		chromedp.ModifyCmdFunc(func(c *exec.Cmd) {
			c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			command = c
		}),
		chromedp.WindowSize(1280, 800),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.WSURLReadTimeout(patience),
	)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	return &Browser{t: t, ctx: ctx}
}

// remove removes the folder of a Chromium that has ended. Its helpers may outlive it by a moment, in which they write there.
func remove(t testing.TB, dir string, command *exec.Cmd) {
	if command != nil && command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // nobody is left but for that moment
	}
	over, tick := time.After(patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-over:
			t.Error(err)
			return
		}
	}
}

// Open opens a page and returns the HTTP status. A login that is refused is 401.
func (b *Browser) Open(url string) int64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	response, err := chromedp.RunResponse(ctx, chromedp.Navigate(url))
	if err != nil && strings.Contains(err.Error(), "ERR_INVALID_AUTH_CREDENTIALS") {
		return 401
	}
	if err == nil && response == nil {
		err = errors.New("the browser got no answer")
	}
	if err != nil {
		b.t.Fatalf("%s: %v", url, err)
	}
	return response.Status
}

// Text is what the page shows, as a reader would copy it.
func (b *Browser) Text() string {
	b.t.Helper()
	text, err := b.text()
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *Browser) text() (string, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	var text string
	err := chromedp.Run(ctx, chromedp.Evaluate("document.body ? document.body.innerText : ''", &text))
	return text, err
}

// Await waits until the page shows it, which it must do by itself.
func (b *Browser) Await(what string, shows func(text string) bool) {
	b.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		// In the moment of a refresh there is no page to ask.
		text, err := b.text()
		if err == nil && shows(text) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("waited in vain until the page shows %s: %v\n%s", what, err, text)
		}
	}
}

// Scripts tells how many elements of the page are scripts.
func (b *Browser) Scripts() int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	var n int
	if err := chromedp.Run(ctx, chromedp.Evaluate("document.scripts.length", &n)); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// Screenshot puts a picture of the whole page, NAME.png, into the folder that DOKKU_EXPOSE_SCREENSHOTS names, if it does.
func (b *Browser) Screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv(screenshotsVariable)
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	var picture []byte
	err := chromedp.Run(ctx, chromedp.FullScreenshot(&picture, 100))
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)); err != nil {
		b.t.Error(err)
	}
}
