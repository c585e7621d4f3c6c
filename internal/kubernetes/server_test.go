package kubernetes_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"dokku-expose/internal/kubernetes"
	"dokku-expose/internal/wait"
)

// holdVariable has this test binary start a server and print the process ids of its children, until it is killed.
const holdVariable = "KUBERNETES_TEST_HOLD"

func TestRealServerEndsWithItsTest(t *testing.T) {
	if os.Getenv(holdVariable) != "" {
		kubernetes.Start(t)
		threads, err := filepath.Glob("/proc/self/task/*/children")
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for _, thread := range threads {
			children, err := os.ReadFile(thread)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a thread may have ended
				t.Fatal(err)
			}
			all = append(all, children...)
		}
		fmt.Println("children", string(all))
		select {}
	}
	kubernetes.Start(t) // or skips
	test := exec.Command(os.Args[0], "-test.run=^TestRealServerEndsWithItsTest$")
	test.Env, test.Stderr = append(os.Environ(), holdVariable+"=1", "TMPDIR="+t.TempDir()), t.Output()
	out, err := test.StdoutPipe()
	if err == nil {
		err = test.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer test.Wait()
	defer test.Process.Kill()
	var pids []int
	for lines := bufio.NewScanner(out); pids == nil && lines.Scan(); {
		if list, ok := strings.CutPrefix(lines.Text(), "children"); ok {
			for _, field := range strings.Fields(list) {
				if pid, err := strconv.Atoi(field); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	if len(pids) != 2 {
		t.Fatalf("etcd and the API server have the process ids %v", pids)
	}
	if err := test.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "both have ended", func() bool {
		for _, pid := range pids {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return false
			}
		}
		return true
	})
}

func TestRealServerIsStrict(t *testing.T) {
	s := kubernetes.Start(t)
	account := kubernetes.Object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": kubernetes.Object{"namespace": "default", "name": "reader"}}
	if err := s.Apply(account); err != nil {
		t.Fatal(err)
	}
	account["automount"] = true
	if err := s.Apply(account); err == nil || !strings.Contains(err.Error(), "automount") {
		t.Errorf("with an unknown field: %v", err)
	}
	_, err := s.ServiceAccount("default", "reader").Do("GET", "/api/v1/nodes", "", nil)
	if answer := (&kubernetes.Error{}); !errors.As(err, &answer) || answer.Code != 403 {
		t.Errorf("a service account without rights: %v", err)
	}
}
