package dokku

import (
	"errors"
	"fmt"
)

// Exit codes that Dokku gives a meaning to.
const (
	exitFailure = 1
	exitNoApp   = 20
)

// ExitError is an error that wants a certain exit code.
type ExitError struct {
	Code int
	// Err is what to print; nil prints nothing.
	Err error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// NoApp is the error, in Dokku's words and with its exit code, of an app that does not exist.
func NoApp(app string) error {
	return &ExitError{Code: exitNoApp, Err: fmt.Errorf("App %s does not exist", app)} //nolint:staticcheck // Dokku's words
}

// NotImplemented is how a `commands` program says that it doesn't know the command, so that Dokku asks the next plugin.
func (e Env) NotImplemented() error { return &ExitError{Code: e.NotImplementedExit} }

// ExitCode returns the exit code for err: 0 for nil, that of an [ExitError] within it, else 1.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	return exitFailure
}
