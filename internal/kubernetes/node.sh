# shellcheck shell=sh
# A node of a test's cluster, as the init of its own namespaces of network, mounts and processes. Its variables: NAME; ADDRESS and GATEWAY on the
# bridge between the nodes (/24); PODS, the network of its pods (/24); DIR, its folder; PROGRAMS; KUBECONFIG; CNI, the folder of network plugins.
set -eu
mount --make-rshared /
mount -t tmpfs run /run
mount -t tmpfs lib /var/lib
mount -t tmpfs log /var/log
# The kubelet would change these for the whole machine.
for file in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  cp "/proc/sys/$file" "$DIR/sysctl"
  cp "$DIR/sysctl" "$DIR/$(basename "$file")"
  mount --bind "$DIR/$(basename "$file")" "/proc/sys/$file"
done
until ip link set eth0 up 2>/dev/null; do sleep 0.1; done
ip link set lo up
ip address add "$ADDRESS/24" dev eth0
ip route add default via "$GATEWAY"
echo 1 >/proc/sys/net/ipv4/ip_forward

mkdir -p "$DIR/cni"
cat >"$DIR/cni/pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam":
  {"type": "host-local", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$DIR/ipam"}}]}
END
cat >"$DIR/containerd.toml" <<END
version = 2
root = "$DIR/root"
state = "$DIR/state"
[grpc]
address = "$DIR/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$CNI"
conf_dir = "$DIR/cni"
END
cat >"$DIR/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$NAME
containerRuntimeEndpoint: unix://$DIR/containerd.sock
enforceNodeAllocatable: [pods]
evictionHard: {memory.available: 1Mi, nodefs.available: 0%, imagefs.available: 0%, nodefs.inodesFree: 0%}
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
podLogsDir: $DIR/pods
readOnlyPort: 0
resolvConf: ""
END
for folder in /sys/fs/cgroup /sys/fs/cgroup/*/; do
  [ -e "$folder/cgroup.procs" ] || continue
  mkdir -p "$folder/$NAME"
  for file in cpuset.cpus cpuset.mems; do
    [ -s "$folder/$NAME/$file" ] || ! [ -e "$folder/$file" ] || cat "$folder/$file" >"$folder/$NAME/$file"
  done
done
containerd --config "$DIR/containerd.toml" >"$DIR/containerd.log" 2>&1 &
until ctr --address "$DIR/containerd.sock" version >/dev/null 2>&1; do sleep 0.1; done
ctr --address "$DIR/containerd.sock" --namespace k8s.io images import --snapshotter native "$DIR/pause.tar"
"$PROGRAMS/kubernetes" kube-proxy --kubeconfig "$KUBECONFIG" --hostname-override "$NAME" --proxy-mode iptables \
  --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0 >"$DIR/kube-proxy.log" 2>&1 &
"$PROGRAMS/kubernetes" kubelet --config "$DIR/kubelet.yaml" --kubeconfig "$KUBECONFIG" --root-dir "$DIR/kubelet" --cert-dir "$DIR/certificates" \
  --hostname-override "$NAME" --node-ip "$ADDRESS"
