package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"dokku-expose/hooks/host"
)

// account is where a pod finds the credentials of its service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// Entry is Serve on an entry host, in a pod of the DaemonSet. The environment says which node that is, and which file tells that the
// daemon is ready.
func Entry(ctx context.Context, h *host.Host) error {
	node, readyFile := os.Getenv("NODE_NAME"), os.Getenv("READY_FILE")
	if node == "" || readyFile == "" {
		return fmt.Errorf("NODE_NAME is %q and READY_FILE is %q: this command is for the pods that `dokku expose:k3s-install` makes, which have both", node, readyFile)
	}
	// A fresh node has no folder for the daemon's socket.
	if err := os.MkdirAll(filepath.Dir(h.Control), 0o750); err != nil {
		return err
	}
	if err := os.Remove(readyFile); err != nil && !os.IsNotExist(err) {
		return err
	}
	kubeconfig := os.Getenv("KUBECONFIG")
	if kubeconfig == "" {
		kubeconfig = filepath.Join(h.Env.LibRoot, "kubeconfig")
		if err := writeKubeconfig(kubeconfig); err != nil {
			return err
		}
	}
	if err := h.BecomeEntry(node, kubeconfig); err != nil {
		return err
	}
	err := serve(ctx, h, func() error { return os.WriteFile(readyFile, nil, 0o644) })
	if err == nil {
		// Another daemon has taken over. The cluster would start this one again if it ended before it is told to.
		<-ctx.Done()
	}
	return err
}

// writeKubeconfig writes a kubeconfig of the pod's service account. The cluster renews the token in its file.
func writeKubeconfig(path string) error {
	server := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: entry
clusters: [{name: entry, cluster: {server: "https://%s", certificate-authority: %s/ca.crt}}]
users: [{name: entry, user: {tokenFile: %s/token}}]
contexts: [{name: entry, context: {cluster: entry, user: entry}}]
`, server, account, account)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// The pause between two attempts to follow the table doubles from the first to the last.
const firstFollow, lastFollow = 250 * time.Millisecond, 5 * time.Second

// followTable keeps the host's files those of the cluster's table until ctx ends, and calls changed when it has written them. While the
// table can't be read, the host goes on by the files that it has.
func followTable(ctx context.Context, h *host.Host, log *slog.Logger, changed func()) {
	pause, told := firstFollow, ""
	for ctx.Err() == nil {
		client, err := h.Cluster()
		if err == nil {
			err = client.FollowConfigMap(ctx, host.EntryName, host.EntryName, func(data map[string]string) error {
				text, has := data[host.TableKey]
				if !has {
					return nil // It is about to be written.
				}
				if err := h.Adopt(ctx, text); err != nil {
					return err
				}
				if told != "" {
					log.Info("the table can be read again")
				}
				pause, told = firstFollow, ""
				changed()
				return nil
			})
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != told {
			told = err.Error()
			log.Error("table", "error", err)
		}
		host.Sleep(ctx, pause)
		pause = min(2*pause, lastFollow)
	}
}
