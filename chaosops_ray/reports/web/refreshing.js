// One refresh at a time, however often it is asked for.

// Returns a function that does the work; when it is called meanwhile, the work is done once more after that.
export function refreshing(work) {
  let isBusy = false;
  let isWanted = false;
  return async () => {
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    while (isWanted) {
      isWanted = false;
      await work();
    }
    isBusy = false;
  };
}
