package measure

import (
	"cmp"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Machine describes the machine that this runs on in a line: processor, cores, memory, kernel, and Go's version.
func Machine() (string, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return "", err
	}
	cpus, err := fs.CPUInfo()
	if err != nil {
		return "", err
	}
	memory, err := fs.Meminfo()
	if err != nil {
		return "", err
	}
	load, err := fs.LoadAvg()
	if err != nil {
		return "", err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	model := "unknown processor"
	if len(cpus) > 0 {
		model = cmp.Or(cpus[0].ModelName, runtime.GOARCH+" processor")
	}
	gigabytes := 0.0
	if memory.MemTotal != nil {
		gigabytes = float64(*memory.MemTotal) / (1 << 20)
	}
	return fmt.Sprintf("%s, %d cores, %.0f GB of memory, Linux %s, %s, load average before the run %.2f",
		model, runtime.NumCPU(), gigabytes, unix.ByteSliceToString(name.Release[:]), runtime.Version(), load.Load1), nil
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\S*`)

// Version is the version that a program says it has when it is called with args.
func Version(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return cmp.Or(versionNumber.FindString(string(out)), "of an unknown version"), nil
}
