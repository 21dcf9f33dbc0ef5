#!/usr/bin/env bash
# A Slurm of one node on the loopback address, from Debian's packages, as root and without systemd:
# what make test-slurm runs against. Running it twice changes nothing.
set -euo pipefail

if sinfo --noheader >/dev/null 2>&1; then sinfo; exit; fi
if [ "$(id -u)" != 0 ]; then echo "starting Slurm needs root" >&2; exit 1; fi
command -v slurmctld >/dev/null || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends slurm-wlm munge
}

host=$(hostname -s)
[ -f /etc/munge/munge.key ] || mungekey -c
install -d -o munge -g munge -m 755 /run/munge
[ -S /run/munge/munge.socket.2 ] ||
    setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
mkdir -p /etc/slurm /var/spool/slurm/ctld /var/spool/slurm/d /var/log/slurm
cat > /etc/slurm/slurm.conf <<END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
StateSaveLocation=/var/spool/slurm/ctld
SlurmdSpoolDir=/var/spool/slurm/d
SlurmctldLogFile=/var/log/slurm/ctld.log
SlurmdLogFile=/var/log/slurm/d.log
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=15
SchedulerParameters=sched_interval=5,sched_min_interval=500000,bf_interval=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(($(free -m | awk '/Mem/ {print $2}') - 1024)) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
slurmctld
slurmd
for _ in $(seq 20); do
    if sinfo --noheader --format %T | grep -q idle; then break; fi
    sleep 1
done
sinfo
