package sample

import "testing"

func TestPasses(t *testing.T) { t.Log("nobody needs to read this") }

func TestFails(t *testing.T) {
	t.Run("row one", func(t *testing.T) { t.Error("what went wrong") })
	t.Run("row two", func(t *testing.T) { t.Log("nor this") })
}

func TestSkipped(t *testing.T) { t.Skip("this test needs a moon") }

func TestSkippedToo(t *testing.T) { t.Skip("this test needs a moon") }

func TestPanics(t *testing.T) {
	t.Log("said before the panic")
	panic("out of the blue")
}
