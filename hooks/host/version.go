package host

import (
	"runtime/debug"
)

// release is set when a release is built.
var release = ""

func Version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "(devel)"
}
