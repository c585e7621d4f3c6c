package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"dokku-expose/internal/need"
)

// TestMain lets the test's program be the one in the network namespace too, as the real one is.
func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// Not for the figures: so that the benchmark still works when it is wanted.
func TestBenchmarkMeasuresEachEngine(t *testing.T) {
	need.HAProxy(t)
	need.Program(t, "ip", "iproute2")
	need.Root(t)
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := probe.Run(); errors.Is(err, syscall.EPERM) {
		t.Skipf("this root may not make a network namespace: %v", err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-apps", "2,3", "-deploys", "4"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	t.Logf("\n%s", &stdout)
	for _, row := range rows {
		line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row.title) + ` +\| +(-?[\d.,]+) \| +(-?[\d.,]+) \|`)
		if found := line.FindAllString(stdout.String(), -1); len(found) != len(engines) {
			t.Errorf("%q has figures for %d engines: %s", row.title, len(found), strings.Join(found, "\n"))
		}
	}
	for _, title := range []string{rowBroken, rowLists} {
		want := map[string]string{rowBroken: "0", rowLists: "1"}[title]
		line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(title) + ` +\| +` + want + ` \| +` + want + ` \|`)
		if found := line.FindAllString(stdout.String(), -1); len(found) != len(engines) {
			t.Errorf("%q is not %s for both engines", title, want)
		}
	}
}

func TestArgumentsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{{"-apps", "0"}, {"-apps", "many"}, {"-apps", "100000"}, {"-engines", "nginx"}, {"-deploys", "0"}, {"all"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, nil, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d, %q", args, code, &stderr)
		}
	}
}

func TestTableTellsHowFiguresGrow(t *testing.T) {
	got := table([]int{10, 100}, []figures{{rowSwitch: 50, rowLists: 1}, {rowSwitch: 75, rowLists: 1}})
	for _, want := range []string{
		`\| +10 apps \| 100 apps \| growth for 10 times the apps \| +goal \|`,
		regexp.QuoteMeta(rowSwitch) + ` +\| +50 \| +75 \| +1\.50 \| 50 at 10 apps`,
		regexp.QuoteMeta(rowBroken) + ` +\| +0 \| +0 \| +- \| +0 \|`,
	} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("there is no %s in\n%s", want, got)
		}
	}
}
