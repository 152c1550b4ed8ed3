// The picture that the README shows: the admin's tab beside a user's.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const HEIGHT = 760;
const ADMIN_WIDTH = 1280;
const USER_WIDTH = 400;

/** Makes `dashboard.png` in `folder`; `last` is what shall be seen as a toast. */
export async function takePicture(context, { admin, user }, folder, last) {
  await mkdir(folder, { recursive: true });
  await admin.page.setViewportSize({ width: ADMIN_WIDTH, height: HEIGHT });
  await user.page.setViewportSize({ width: USER_WIDTH, height: HEIGHT });
  await last();
  const shots = [];
  for (const tab of [admin, user]) {
    await tab.turnTo();
    await tab.page.evaluate(() => {
      document.activeElement?.blur();
      const narrow = innerWidth < 640;
      // On a narrow page the form fills the first screen; the orders are the news.
      if (narrow) document.getElementById("orders-title").scrollIntoView();
      else scrollTo(0, 0);
    });
    shots.push(await tab.page.screenshot({ animations: "disabled" }));
  }
  const page = await context.newPage();
  await page.setViewportSize({ width: ADMIN_WIDTH + USER_WIDTH + 60, height: HEIGHT + 40 });
  const image = (png) => `<img src="data:image/png;base64,${png.toString("base64")}" height="${HEIGHT}">`;
  await page.setContent(
    `<style>
       body { margin: 0; padding: 20px; display: flex; gap: 20px; background: #cfd8d4; }
       img { border-radius: 10px; box-shadow: 0 4px 18px rgb(0 0 0 / 25%); }
     </style>${shots.map(image).join("")}`,
  );
  await page.evaluate(() => Promise.all([...document.images].map((img) => img.decode())));
  await writeFile(join(folder, "dashboard.png"), await page.screenshot());
  await page.close();
}
