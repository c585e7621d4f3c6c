package stats

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"dokku-expose/deploy"
	"dokku-expose/templates"
)

// refresh is how often the page renews itself, in seconds.
const refresh = 5

// policy lets the page have its own style sheet, known by its hash, and nothing else: no script, no picture, no other page
// around it.
var policy = func() string {
	sum := sha256.Sum256([]byte(templates.StatusStyle))
	return fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(sum[:]))
}()

var pageTemplate = template.Must(template.New("status.html").
	Funcs(template.FuncMap{
		"ago":     func(t time.Time) string { return duration(time.Since(t)) },
		"bytes":   Size,
		"count":   func(n any) string { return thousands(fmt.Sprint(n)) },
		"errors":  failures,
		"rfc3339": func(t time.Time) string { return t.Format(time.RFC3339) },
	}).
	Option("missingkey=error").
	Parse(templates.Status))

// view is what the template shows.
type view struct {
	Refresh int
	Title   string
	Style   template.CSS
	Now     time.Time
	// Observed is nil when there is an Error.
	Observed *deploy.Observation
	Error    string
}

// page answers with the page.
func (s *server) page(w http.ResponseWriter, r *http.Request) {
	v := view{Refresh: refresh, Style: template.CSS(templates.StatusStyle), Now: time.Now()}
	code := http.StatusOK
	observed, err := s.ask(r.Context())
	if err != nil {
		code = http.StatusServiceUnavailable
		v.Title, v.Error = "no answer", err.Error()
	} else {
		observed.Sort()
		v.Observed = &observed
		v.Title = thousands(strconv.Itoa(observed.Connections())) + " connections"
	}
	// Written in one piece, so that an error is not half a page.
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		s.Log.Error("statistics page", "error", err)
		http.Error(w, "the page could not be made; the log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // who does not wait for it does not want it
}

// failures marks a number that should be 0.
func failures(n uint64) template.HTML {
	text := thousands(strconv.FormatUint(n, 10))
	if n == 0 {
		return template.HTML(text)
	}
	return template.HTML(`<span class="error">` + text + `</span>`)
}

// thousands puts a comma before every three digits.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Size is a number of bytes as people read it.
func Size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// duration is a time as people say it: in its largest unit.
func duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
